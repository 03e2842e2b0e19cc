"""A server that says nothing is given up; one that is slow, as it was told to be, is not."""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from functools import partial
from pathlib import Path

import psycopg2
import pytest

from app.domain.errors import StorageUnavailable
from app.infrastructure.embedded import EmbeddedPostgres
from app.infrastructure.postgres.database import Database
from app.infrastructure.postgres.statement_watchdog import Deadlines, WatchedConnection
from conftest import Server
from support.scratch import embedded_server

TIMEOUT = 60.0
TIMEOUT_S = 3.0  # of a statement: a busy machine answers the others within it


@pytest.fixture
def impatient(server: Server) -> Database:
    if not server.concurrent:
        pytest.skip("its only session would be broken")
    return Database(server.url, timeout_s=TIMEOUT_S, pool_size=1, max_overflow=0)


def test_a_statement_that_does_not_end_in_time_is_given_up(impatient: Database) -> None:
    with pytest.raises(StorageUnavailable):
        impatient.rows("SELECT pg_sleep(60)")
    assert impatient.rows("SELECT 1") == [(1,)]
    impatient.engine.dispose()


def test_in_maintenance_a_statement_may_take_longer(impatient: Database) -> None:
    with impatient.maintenance() as connection:
        assert connection.exec_driver_sql(f"SELECT pg_sleep({TIMEOUT_S + 2})").rowcount == 1
    impatient.engine.dispose()


def test_a_connection_that_is_idle_is_left_alone(impatient: Database) -> None:
    process = impatient.rows("SELECT pg_backend_pid()")
    time.sleep(TIMEOUT_S + 2)
    assert impatient.rows("SELECT pg_backend_pid()") == process
    impatient.engine.dispose()


def test_what_has_broken_meanwhile_stops_nobody(server: Server) -> None:
    """The thread that looks after all statements outlives a connection that is closed under its hands."""
    if not server.concurrent:
        pytest.skip("its only session would be broken")
    deadlines = Deadlines(clock=itertools.count().__next__)
    closed, open_one = (WatchedConnection(_dsn(server), timeout_s=None) for _ in range(2))
    closed.close()
    deadlines.begin(closed, -1)
    deadlines.begin(open_one, -1)
    deadlines.close_overdue()
    deadlines.close_overdue()
    with pytest.raises(psycopg2.OperationalError), open_one.cursor() as cursor:
        cursor.execute("SELECT 1")
    for connection in (closed, open_one):
        deadlines.end(connection)
    open_one.close()


def _dsn(server: Server) -> str:
    return server.url.replace("+psycopg2", "")


@pytest.mark.skipif(not Path("/proc").exists(), reason="finds the server's processes in /proc")
def test_a_server_that_is_paused_is_given_up_and_found_again() -> None:
    with embedded_server() as server:
        connect_args = {"connect_timeout": 5}
        database = Database(server.url, timeout_s=TIMEOUT_S, pool_size=2, max_overflow=0, connect_args=connect_args)
        assert database.rows("SELECT 1") == [(1,)]
        (process,) = database.rows("SELECT pg_backend_pid()")[0]
        stopped = [_postmaster(server), process]
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        go_on = threading.Timer(TIMEOUT, partial(_go_on, stopped))
        go_on.start()  # whatever happens
        try:
            with pytest.raises(StorageUnavailable):
                database.read("SELECT 1")
            assert go_on.is_alive(), "it was not given up"
        finally:
            go_on.cancel()
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)
        assert database.read("SELECT 1") == [(1,)]
        database.engine.dispose()


def _postmaster(server: EmbeddedPostgres) -> int:
    return int((server.data_dir / "cluster" / "postmaster.pid").read_text().split()[0])


def _go_on(stopped: list[int]) -> None:
    for pid in stopped:
        os.kill(pid, signal.SIGCONT)
