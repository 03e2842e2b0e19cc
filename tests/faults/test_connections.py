"""No connection to be had: the server has none left, or all of the service's own are waiting."""

from __future__ import annotations

import time
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import psycopg2

from faults.load import Load, connect, count_again
from support.replication import PostgresServer
from support.service import running

PUT_OUT = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'predlog'"


def test_a_server_without_a_connection_left_is_waited_for(
    server: PostgresServer, engine: str, tmp_path: Path, model: str, load_s: float
) -> None:
    server.stop()
    server.start(max_connections="10")
    with (
        running(tmp_path, "--no-migrate", DATABASE_URL=server.url, AUTH="none") as service,
        Load(model, [service.port]) as load,
    ):
        load.go_on(load_s)
        with ExitStack() as others:
            first = others.enter_context(closing(connect(server.url)))
            _take_all(server.url, first, others)
            began = time.monotonic()
            load.wait_until_refused(began)
            assert service.request("GET", "/health")[0] == 200
            time.sleep(load_s)
        moment = time.monotonic()
        load.go_on(load_s)
        count_again(f"no connection left on the server, {engine}", load, server.url, service, moment)


def _take_all(url: str, first: Any, others: ExitStack) -> None:
    """Put the service out and be quicker than it, until it has no connection and the server none to give."""
    until = time.monotonic() + 60
    while True:
        assert time.monotonic() < until
        with suppress(psycopg2.OperationalError):
            while True:
                others.enter_context(closing(connect(url)))
        with first.cursor() as cursor:
            cursor.execute(PUT_OUT)
            if cursor.fetchone() == (0,):
                return


def test_a_pool_of_which_every_connection_waits_is_waited_for(
    server: PostgresServer, engine: str, tmp_path: Path, model: str, load_s: float
) -> None:
    limits = {"LOCK_TIMEOUT_MS": "2000", "POOL_TIMEOUT_S": "0.2", "POOL_SIZE": "1", "THREADS": "8", "WORKERS": "1"}
    with (
        running(tmp_path, "--no-migrate", DATABASE_URL=server.url, AUTH="none", **limits) as service,
        Load(model, [service.port]) as load,
    ):
        load.go_on(load_s)
        with closing(connect(server.url)) as other:
            other.autocommit = False
            with other.cursor() as cursor:
                cursor.execute("LOCK TABLE prediction_log IN SHARE MODE")
            load.wait_until_refused(time.monotonic())
            assert service.request("GET", "/health")[0] == 200
            time.sleep(load_s)
            load.wait_until_refused(time.monotonic())
        moment = time.monotonic()
        load.go_on(load_s)
        count_again(f"every connection of the pool waits for a lock, {engine}", load, server.url, service, moment)
