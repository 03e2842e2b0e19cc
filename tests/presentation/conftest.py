"""What tests of the API need beside a client: rows in bulk, and a database that is away."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine

from conftest import Server, make_app
from support.scratch import url_where_nobody_listens

INSERT = """
INSERT INTO prediction_log (timestamp, model_name, duration_ms, was_successful)
SELECT timestamp, %(model)s, n, n %% 10 <> 0
FROM   unnest(%(timestamps)s::timestamptz[]) WITH ORDINALITY AS rows (timestamp, n)
"""

# Below the watermark nothing waits for repair, and the watermark has come as near as it may.
DONE = """
SELECT s.watermark = s.invalidation_threshold AND s.invalidation_threshold > now() - INTERVAL '3 minutes'
   AND NOT EXISTS (SELECT FROM prediction_invalidation c WHERE c.invalid_to <= s.watermark)
FROM   prediction_stats_state s
"""
TIMEOUT = 120.0  # seconds; the database's own job may be at it for half a minute


@pytest.fixture
def refresh(database: Engine, server: Server) -> Callable[[], None]:
    """Refresh the aggregates and all invalidated hours; wait for the database's own job if that was first."""

    def refresh() -> None:
        until = time.monotonic() + TIMEOUT
        with database.connect() as connection:
            while server.engine == "timescale":
                connection.exec_driver_sql("CALL prediction_stats_job(0, '{}')")
                if connection.exec_driver_sql(DONE).scalar():
                    break
                assert time.monotonic() < until, "the aggregates do not come up to date"
                time.sleep(0.1)

    return refresh


@pytest.fixture
def insert(database: Engine, model: str) -> Callable[[list[datetime]], None]:
    """Insert predictions of `model` at these times, in this order; the nth takes n milliseconds, every tenth fails."""

    def insert(timestamps: list[datetime]) -> None:
        with database.connect() as connection:
            connection.exec_driver_sql(INSERT, {"model": model, "timestamps": timestamps})

    return insert


@pytest.fixture
def midnight() -> datetime:
    """When the day before yesterday began in UTC: all of that day and the next is over."""
    now = datetime.now(timezone.utc)
    return now.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=2)


@pytest.fixture(scope="session")
def away() -> FlaskClient:
    """A client of a service whose database is away."""
    return make_app(url_where_nobody_listens()).test_client()
