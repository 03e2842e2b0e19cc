"""The service behind PgBouncer in transaction mode: each transaction may get another session of the server."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg2
import pytest
from flask import Flask
from flask.testing import FlaskClient
from flask_migrate import upgrade
from sqlalchemy import make_url

from app.domain.errors import StorageBusy
from app.infrastructure.postgres.database import Database
from app.infrastructure.postgres.session_settings import BehindPooler
from conftest import Server, make_app
from support.pooler import TIMEOUT, pgbouncer, program
from support.scratch import empty_database
from support.service import running

SETTINGS = {"timezone": "UTC", "jit": "off", "statement_timeout": "7s", "lock_timeout": "3s"}
SHOW = "SELECT " + ", ".join(f"current_setting('{name}')" for name in SETTINGS)
COUNT = "SELECT count(*) FROM prediction_log WHERE model_name = %(model)s"
END_SESSIONS = """
SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity
WHERE  pid <> pg_backend_pid() AND application_name = 'predlog' AND datname = %(name)s AND usename = current_user
"""


@pytest.fixture(scope="module")
def pooled(server: Server) -> Iterator[str]:
    """The URL of the database that all tests share, through PgBouncer."""
    if program() is None:
        pytest.skip("there is no pgbouncer here")
    if not server.concurrent:
        pytest.skip("all clients of this TimescaleDB share one session already")
    with pgbouncer(server.service_url) as url:
        yield url


@pytest.fixture
def database(pooled: str) -> Iterator[Database]:
    database = Database(pooled, SETTINGS, pool_size=8, max_overflow=0)
    yield database
    database.engine.dispose()


@pytest.fixture
def behind(pooled: str) -> Flask:
    """The service behind PgBouncer."""
    return make_app(pooled, max_concurrent_batches=8)


def post(client: FlaskClient, model: str, **fields: Any) -> int:
    body = {"model_name": model, "duration_ms": 1, "was_successful": True, **fields}
    response = client.post("/api/v1/predict-log", json=body)
    assert response.status_code == 200, response.text
    return int(response.json["id"])


def at_once(work: Callable[[int], Any], number: int = 8) -> list[Any]:
    """Do it in so many threads: more of them than PgBouncer has connections, so that these change hands."""
    with ThreadPoolExecutor(number) as threads:
        return list(threads.map(work, range(number)))


def test_the_settings_of_a_session_hold_in_every_statement_and_in_every_snapshot(database: Database) -> None:
    def look(_: int) -> set[Any]:
        seen = {tuple(row) for _ in range(20) for row in database.rows(SHOW)}
        with database.snapshot() as connection:
            seen |= {tuple(connection.exec_driver_sql(SHOW).one()) for _ in range(5)}
        return seen

    assert at_once(look) == [{tuple(SETTINGS.values())}] * 8


def test_a_statement_that_takes_too_long_is_ended(pooled: str) -> None:
    database = Database(pooled, {"statement_timeout": "2s"}, pool_size=1)
    with pytest.raises(StorageBusy):
        database.rows("SELECT pg_sleep(60)")
    assert database.rows("SELECT 42") == [(42,)]
    database.engine.dispose()


def test_nothing_is_left_for_the_next_client(server: Server, pooled: str) -> None:
    with pgbouncer(server.url, size=1) as url:  # a single session, which all share
        database = Database(url, SETTINGS, pool_size=1)
        other = psycopg2.connect(url.replace("+psycopg2", ""))
        other.autocommit = True
        with other.cursor() as cursor:
            cursor.execute(SHOW)
            before = cursor.fetchone()
            database.rows("SELECT 1")
            with database.snapshot() as connection:
                connection.exec_driver_sql("SELECT 1")
            with pytest.raises(StorageBusy):
                Database(url, {"statement_timeout": "100ms"}).rows("SELECT pg_sleep(60)")
            cursor.execute(SHOW)
            assert cursor.fetchone() == before != tuple(SETTINGS.values())
        other.close()
        database.engine.dispose()


def test_all_that_is_read_in_a_snapshot_is_of_one_moment(database: Database, behind: Flask, model: str) -> None:
    with database.snapshot() as connection:
        assert connection.exec_driver_sql(COUNT, {"model": model}).scalar() == 0
        post(behind.test_client(), model)
        assert connection.exec_driver_sql(COUNT, {"model": model}).scalar() == 0
    assert database.rows(COUNT, {"model": model}) == [(1,)]


def test_every_route_answers_as_it_does_without(server: Server, behind: Flask, model: str) -> None:
    def call(number: int) -> None:
        client = behind.test_client()
        ids = [post(client, model, model_version=str(number % 2), duration_ms=n + 1) for n in range(10)]
        records = [
            {"model_name": model, "duration_ms": n, "was_successful": n % 2 == 0, "request_id": str(uuid4()),
             "timestamp": f"2025-06-0{n % 9 + 1}T12:00:00Z"}
            for n in range(50)
        ]  # fmt: skip
        for expected in ({"stored": 50, "duplicates": 0}, {"stored": 0, "duplicates": 50}):
            receipt = client.post("/api/v1/predict-logs", json=records).json
            assert {key: receipt[key] for key in expected} == expected
        assert client.get(f"/api/v1/predictions/{ids[0]}").json["id"] == ids[0]
        assert client.delete(f"/api/v1/predictions/{ids[0]}").status_code == 200
        assert client.get(f"/api/v1/predictions/{ids[0]}").status_code == 404

    at_once(call)
    direct, through = make_app(server.url).test_client(), behind.test_client()
    for path in ("stats", "stats/timeseries", "stats/compare", "models", "predictions"):
        query = {"model_name": model, "from": "2025-06-01", "to": "2025-06-09", "percentiles": "50,99"}
        if path == "stats/compare":
            query |= {"version_a": "0", "version_b": "1"}
        if path in ("models", "predictions"):
            query = {"model_name": model}
        answers = [client.get(f"/api/v1/{path}", query_string=query) for client in (direct, through)]
        assert [answer.status_code for answer in answers] == [200, 200], answers[1].text
        assert comparable(answers[0].json) == comparable(answers[1].json)
    total = through.get("/api/v1/stats", query_string={"model_name": model}).json["total_requests"]
    assert total == 8 * (9 + 50)
    assert through.get("/ready").json["engine"] == server.engine


def comparable(answer: Any) -> Any:
    """Without what depends on how far the aggregates were at that moment."""
    if isinstance(answer, dict):
        return {key: comparable(value) for key, value in answer.items() if key != "freshness"}
    return [comparable(item) for item in answer] if isinstance(answer, list) else answer


def test_sessions_of_the_server_that_end_are_not_missed(server: Server, behind: Flask, pooled: str, model: str) -> None:
    client = behind.test_client()
    post(client, model)
    admin = Database(server.service_url)
    assert admin.rows(END_SESSIONS, {"name": make_url(server.url).database})
    until = time.monotonic() + TIMEOUT
    while client.get("/api/v1/stats", query_string={"model_name": model}).status_code != 200:
        assert time.monotonic() < until
    post(client, model)
    admin.engine.dispose()


def test_maintenance_is_refused_if_its_locks_would_outlive_it(database: Database) -> None:
    with pytest.raises(BehindPooler, match="DATABASE_DIRECT_URL"), database.maintenance():
        raise AssertionError("it was let in")


@pytest.fixture
def empty(server: Server, pooled: str) -> Iterator[tuple[str, str]]:
    """The URLs of an empty database: straight to it, and through PgBouncer."""
    with empty_database(server) as url, pgbouncer(url) as through:
        yield url, through


def test_migrations_and_maintenance_take_the_direct_way_and_fail_with_a_sentence_without_one(
    empty: tuple[str, str],
) -> None:
    url, through = empty
    with make_app(through).app_context(), pytest.raises(SystemExit, match="Set DATABASE_DIRECT_URL"):
        upgrade()
    app = make_app(through, database_direct_url=url)
    with app.app_context():
        upgrade()
    for command in (["lifecycle", "apply"], ["stats", "refresh"], ["lifecycle", "retain"]):
        done = app.test_cli_runner().invoke(args=command)
        assert done.exit_code == 0, (command, done.output)
    for command in (["lifecycle", "show"], ["keys", "create", "--scope", "admin", "--name", "n"]):
        done = make_app(through).test_cli_runner().invoke(args=command)
        assert done.exit_code == 0, (command, done.output)


def test_the_whole_service_starts_and_serves(empty: tuple[str, str], public_folder: Path) -> None:
    url, through = empty
    with running(public_folder, DATABASE_URL=through, DATABASE_DIRECT_URL=url) as service:
        body = {"model_name": "m", "duration_ms": 1, "was_successful": True}
        assert [service.request("POST", "/api/v1/predict-log", body)[0] for _ in range(20)] == [200] * 20
        assert service.request("GET", "/api/v1/stats")[1]["total_requests"] == 20


def test_the_servers_time_zone_moves_no_prediction(empty: tuple[str, str], model: str) -> None:
    url, through = empty
    admin = Database(url)
    admin.count(f"ALTER DATABASE {make_url(url).database} SET timezone = 'Pacific/Auckland'", {})
    admin.engine.dispose()
    with make_app(url).app_context():
        upgrade()
    client = make_app(through).test_client()
    for hour in ("00", "11", "12", "23"):
        post(client, model, timestamp=f"2025-04-05T{hour}:30:00Z")  # clocks there went back at 14:00 UTC
    stats = client.get("/api/v1/stats", query_string={"model_name": model, "from": "2025-04-05", "to": "2025-04-05"})
    assert stats.json["total_requests"] == 4
    listed = client.get("/api/v1/predictions", query_string={"model_name": model}).json
    assert [record["timestamp"][11:16] for record in listed] == ["23:30", "12:30", "11:30", "00:30"]
    client.delete(f"/api/v1/predictions/{listed[0]['id']}")
    stats = client.get("/api/v1/stats", query_string={"model_name": model, "from": "2025-04-05", "to": "2025-04-05"})
    assert stats.json["total_requests"] == 3
