"""Reading several times at one moment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, event
from sqlalchemy.exc import DBAPIError

from app.domain.errors import StorageUnavailable
from app.infrastructure.postgres.database import Database, retried
from conftest import Server

COUNT = "SELECT count(*) FROM prediction_log WHERE model_name = %(model)s"
INSERT = """
INSERT INTO prediction_log (timestamp, model_name, duration_ms, was_successful)
VALUES ('2025-06-09', %(model)s, 1, true)
RETURNING id
"""


@pytest.fixture
def own(server: Server) -> Iterator[Database]:
    """A pool of a single connection."""
    database = Database(server.url, pool_size=1, max_overflow=0)
    yield database
    database.engine.dispose()


def test_all_that_is_read_in_a_snapshot_is_of_one_moment(
    own: Database, server: Server, log: Callable[..., None], model: str
) -> None:
    if not server.concurrent:
        pytest.skip("all clients of this TimescaleDB share one session")
    with own.snapshot() as connection:
        assert connection.exec_driver_sql(COUNT, {"model": model}).scalar() == 0
        log()
        assert connection.exec_driver_sql(COUNT, {"model": model}).scalar() == 0
    assert own.rows(COUNT, {"model": model}) == [(1,)]


def test_nothing_is_written_in_a_snapshot_and_all_may_be_after_it(own: Database, model: str) -> None:
    with pytest.raises(StorageUnavailable), own.snapshot() as connection:
        connection.exec_driver_sql(INSERT, {"model": model})
    assert own.rows(COUNT, {"model": model}) == [(0,)]
    own.rows(INSERT, {"model": model})
    assert own.rows(COUNT, {"model": model}) == [(1,)]


def test_an_error_ends_a_snapshot_and_leaves_the_connection_fit(own: Database) -> None:
    with pytest.raises(DBAPIError), own.snapshot() as connection:
        connection.exec_driver_sql("SELECT 1 / 0")
    assert own.rows("SELECT current_setting('transaction_read_only')") == [("off",)]


def test_a_snapshot_that_could_not_be_ended_is_not_left_to_the_next_user_of_its_connection(own: Database) -> None:
    cancelled: list[str] = []

    def cancel(connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> tuple[str, Any]:
        if statement == "ROLLBACK" and not cancelled:
            cancelled.append(statement)
            return "SELECT 1 / 0", parameters
        return statement, parameters

    event.listen(own.engine, "before_cursor_execute", cancel, retval=True)
    with pytest.raises(DBAPIError), own.snapshot() as connection:
        connection.exec_driver_sql("SELECT 1")
    assert cancelled
    with own.snapshot() as connection:
        assert connection.exec_driver_sql("SELECT 42").scalar() == 42


def test_a_snapshot_whose_connection_dies_is_begun_once_more(own: Database, server: Server, database: Engine) -> None:
    if not server.concurrent:
        pytest.skip("all clients of this TimescaleDB share one session")
    pids = []

    def read() -> int:
        with own.snapshot() as connection:
            pids.append(connection.exec_driver_sql("SELECT pg_backend_pid()").scalar())
            if len(pids) == 1:
                with database.connect() as other:
                    other.exec_driver_sql("SELECT pg_terminate_backend(%(pid)s, 60000)", {"pid": pids[0]})
            return int(connection.exec_driver_sql("SELECT 42").scalar_one())

    assert retried(read) == 42
    assert len(set(pids)) == 2
