"""All that Grafana's role can run at once, its limits lifted: the service goes on writing, refreshing, migrating."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import psycopg2
import pytest
from flask_migrate import downgrade, upgrade
from sqlalchemy import create_engine, make_url

from app.infrastructure.roles import reader_role, service_role
from conftest import make_app
from faults.load import TIMEOUT, Load, connect, count_again
from support.replication import PostgresServer
from support.service import running

PASSWORD = "a password that only tests know"
ABUSES = (
    "SELECT pg_advisory_lock(hashtext('prediction_stats'))",
    "SELECT pg_advisory_lock(hashtext('prediction_stats_refresh'))",
    "SELECT pg_advisory_lock(n) FROM generate_series(1, 1000000) AS n",
    "SELECT add_job('_timescaledb_functions.policy_retention', '1 s')",
    "CREATE TEMP TABLE t AS SELECT generate_series(1, 100000000)",
    "SELECT lo_from_bytea(0, repeat('x', 1000000)::bytea)",
    "SELECT pg_logical_emit_message(false, 'x', repeat('x', 1000000))",
    "NOTIFY anybody, 'x'",
    "SELECT * FROM prediction_stats_state FOR UPDATE",
    "LOCK TABLE prediction_log IN ACCESS SHARE MODE",
    "SELECT count(*) FROM generate_series(1, 100000000) AS a ORDER BY 1",
    "DO $$ BEGIN LOOP PERFORM pg_sleep(0.01); COMMIT; END LOOP; END $$",
)
LIFTED = (
    "SET statement_timeout = 0",
    "SET idle_in_transaction_session_timeout = 0",
    "SET default_transaction_read_only = off",
)


def as_role(url: str, role: str) -> str:
    return make_url(url).set(username=role, password=PASSWORD).render_as_string(hide_password=False)


def abuse(url: str, statement: str, end: threading.Event) -> None:
    """Run it again and again, and stay in the transaction for a while."""
    while not end.is_set():
        with suppress(psycopg2.Error), closing(connect(url)) as connection, connection.cursor() as cursor:
            for setting in LIFTED:
                cursor.execute(setting)
            connection.autocommit = statement.startswith("DO")
            with suppress(psycopg2.Error):
                cursor.execute(statement)
            connection.rollback()
            cursor.execute("SELECT count(*) FROM prediction_log")
            end.wait(5)


@contextmanager
def abused(url: str) -> Iterator[None]:
    end = threading.Event()
    with ThreadPoolExecutor(len(ABUSES)) as pool:
        callers = [pool.submit(abuse, url, statement, end) for statement in ABUSES]
        try:
            yield
        finally:
            end.set()
            with closing(connect(url)) as connection, connection.cursor() as cursor:
                while not all(caller.done() for caller in callers):  # one may just have begun again
                    cursor.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                              " WHERE usename = current_user AND pid <> pg_backend_pid()")  # fmt: skip
                    time.sleep(0.1)


def test_the_reader_stops_nobody(
    server: PostgresServer, engine: str, tmp_path: Path, model: str, load_s: float
) -> None:
    owner = create_engine(server.url)
    service_role.create(owner, PASSWORD)
    assert reader_role.create(owner, PASSWORD) == []
    owner.dispose()
    app = make_app(server.url)
    with (
        running(tmp_path, "--no-migrate", DATABASE_URL=as_role(server.url, service_role.ROLE), AUTH="none") as service,
        Load(model, [service.port]) as load,
    ):
        load.go_on(load_s)
        moment = time.monotonic()
        with abused(as_role(server.url, reader_role.ROLE)):
            load.go_on(load_s + 3)
            run = app.test_cli_runner().invoke
            assert run(args=["stats", "refresh"]).exit_code == 0
            assert run(args=["lifecycle", "retain"]).exit_code == 0
            with app.app_context():
                downgrade(revision="-1")
                upgrade()
            load.go_on(load_s)
            if engine == "timescale":
                wait_until_refreshed(server)
        count_again(f"the reader runs all it can, {engine}", load, server.url, service, moment)


def wait_until_refreshed(server: PostgresServer) -> None:
    with closing(connect(server.url)) as connection, connection.cursor() as cursor:
        until = time.monotonic() + TIMEOUT
        while True:
            cursor.execute("SELECT now() - watermark < '3 minutes' FROM prediction_stats_state")
            if cursor.fetchone() == (True,):
                return
            if time.monotonic() > until:
                pytest.fail("the job does not refresh")
            time.sleep(0.5)
