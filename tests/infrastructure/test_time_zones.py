"""The aggregates' days are days of UTC: no time zone of a session or server moves a prediction into another one."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from flask_migrate import upgrade
from sqlalchemy import Engine, create_engine, make_url

from app.infrastructure.maintenance import engines
from app.infrastructure.postgres.database import Database
from conftest import Server, make_app
from support.scratch import empty_database

# Clocks in Berlin went forward on the 30th of March and back on the 26th of October.
DAYS = [datetime(2025, month, day, tzinfo=timezone.utc) for month, day in ((3, 29), (3, 30), (10, 25), (10, 26))]
HOURS = (0.25, 1.5, 5, 22.5, 23.5)

INSERT = """
INSERT INTO prediction_log (timestamp, model_name, duration_ms, was_successful) VALUES (%(at)s, 'm', 1, true)
RETURNING id
"""
DELETE = "DELETE FROM prediction_log WHERE timestamp = %(at)s RETURNING id"
SUMMARIZE = """
INSERT INTO prediction_summary (id, timestamp, model_name, model_version, total_requests, successful_requests,
                                duration_ms_sum, duration_ms_min, duration_ms_max, bins, bin_calls)
VALUES (gen_random_uuid(), %(at)s, 'm', '', 1, 1, 1, 1, 1, '{0}', '{1}')
RETURNING id
"""
REMOVE = "SELECT prediction_summary_remove('m', NULL, %(at)s, %(at)s::timestamptz + INTERVAL '1 minute')"
SUMMARIZED = """
SELECT extract(epoch FROM date_bin('1 {level}', timestamp, 'epoch')) AS bucket, count(*)
FROM   prediction_summary GROUP BY 1 ORDER BY 1
"""
ROLLED_UP = "SELECT extract(epoch FROM bucket), total_requests FROM prediction_summary_{level} ORDER BY 1"
SCAN = """
SELECT extract(epoch FROM date_bin('1 {level}', timestamp, 'epoch')) AS bucket, count(*)
FROM   prediction_log GROUP BY 1 ORDER BY 1
"""
BUCKETS = "SELECT extract(epoch FROM bucket), total_requests FROM prediction_stats_{level} ORDER BY 1"


@pytest.fixture(params=["Europe/Berlin", "Asia/Kolkata"])
def abroad(request: pytest.FixtureRequest, server: Server) -> Iterator[Engine]:
    """A migrated database whose sessions are in another time zone unless they say otherwise; these do not."""
    if not server.concurrent:
        pytest.skip("its only database cannot be given a time zone")
    with empty_database(server) as url:
        engine = create_engine(url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql(f"ALTER DATABASE {make_url(url).database} SET timezone = '{request.param}'")
        engine.dispose()
        with make_app(url).app_context():
            upgrade()
        assert rows(engine, "SHOW timezone") == [(request.param,)]
        yield engine
        engine.dispose()


def rows(engine: Engine, statement: str, values: dict[str, Any] | None = None) -> list[Any]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(statement, values or {})]


def each_day(engine: Engine, statement: str, hour: float) -> None:
    for day in DAYS:
        assert len(rows(engine, statement, {"at": day + timedelta(hours=hour)})) == 1


def check(engine: Engine) -> None:
    """Refreshed by hand, which waits for a run of the database's own job, each bucket has its predictions."""
    database = Database(engine.url.render_as_string(hide_password=False))
    for _ in engines.maintenance(database).refresh(timedelta(days=1)):
        pass
    database.engine.dispose()
    for level in ("minute", "hour", "day"):
        assert rows(engine, BUCKETS.format(level=level)) == rows(engine, SCAN.format(level=level)), level


def test_days_on_which_clocks_change_are_counted_whole(abroad: Engine) -> None:
    for hour in HOURS:
        each_day(abroad, INSERT, hour)  # but for the first hour behind the watermark
        check(abroad)


def test_a_delete_leaves_the_rest_of_such_a_day_as_it_is(abroad: Engine) -> None:
    for hour in HOURS:
        each_day(abroad, INSERT, hour)
    for hour in HOURS:
        check(abroad)
        each_day(abroad, DELETE, hour)
    check(abroad)


def test_what_is_left_of_a_day_of_summaries_is_a_day_of_utc(abroad: Engine) -> None:
    for hour in HOURS:
        each_day(abroad, SUMMARIZE, hour)
    each_day(abroad, REMOVE, 5)
    for level in ("minute", "hour", "day"):
        expected = rows(abroad, SUMMARIZED.format(level=level))
        assert sum(count for _, count in expected) == 16
        assert rows(abroad, ROLLED_UP.format(level=level)) == expected
