"""docs/backup.md and docs/upgrade.md, rehearsed: what was backed up is there after the restore, and the log goes on."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask_migrate import upgrade
from sqlalchemy import create_engine, make_url

from conftest import make_app, materialize
from support.databases import native
from support.page import Reader
from support.replication import PostgresServer, server_and_another
from support.service import ROOT, running

PAGE = ROOT / "docs" / "backup.md"
UPGRADE = ROOT / "docs" / "upgrade.md"
MODELS = ("apartment_price", "apartment_rent")

# Without an end a range ends now, in whole minutes: two answers of the same predictions would differ.
FROM, TO = ((datetime.now(timezone.utc) + timedelta(days=days)).date().isoformat() for days in (-30, 1))


@pytest.fixture(params=["plain", "timescale"])
def engine(request: pytest.FixtureRequest) -> str:
    if request.param == "timescale" and native.why_not():
        pytest.skip(str(native.why_not()))
    return str(request.param)


@pytest.fixture
def servers(engine: str) -> Iterator[tuple[PostgresServer, PostgresServer]]:
    with server_and_another(engine) as servers:
        yield servers


@pytest.fixture
def reader(engine: str, servers: tuple[PostgresServer, PostgresServer], public_folder: Path) -> Reader:
    server, _ = servers
    settings = {
        "PATH": f"{server.programs}:/usr/bin:/bin",
        "DATABASE_URL": address(server, "postgres"),
        "RESTORED_URL": address(server, "restored"),
        "SERVER_URL": address(server, "postgres"),
        "ADMIN_URL": address(server, "postgres"),
    }
    return Reader(public_folder, "backup", settings, engine)


def test_a_dump_is_restored_with_all_that_was_logged(
    engine: str, servers: tuple[PostgresServer, PostgresServer], reader: Reader
) -> None:
    server, _ = servers
    app = filled(server.url, engine)
    before = answers(app)
    with create_engine(server.url, isolation_level="AUTOCOMMIT").connect() as connection:
        connection.exec_driver_sql("CREATE DATABASE restored TEMPLATE template0")
    reader.follow(PAGE, "A dump")
    url = sqlalchemy_address(server, "restored")
    assert answers(make_app(url)) == before
    assert goes_on(make_app(url), url, engine)
    assert answers(app) == before


def test_a_base_backup_starts_as_a_server_with_all_that_was_logged(
    engine: str, servers: tuple[PostgresServer, PostgresServer], reader: Reader
) -> None:
    server, other = servers
    before = answers(filled(server.url, engine))
    reader.follow(PAGE, "A base backup")
    other.take(reader.folder / "backup" / "base")
    server.stop()
    other.start()
    assert answers(make_app(other.url)) == before
    assert goes_on(make_app(other.url), other.url, engine)


def test_the_extension_is_updated_and_the_answers_stay(
    engine: str, servers: tuple[PostgresServer, PostgresServer], reader: Reader
) -> None:
    if engine != "timescale":
        pytest.skip("there is no extension to update")
    app = filled(servers[0].url, engine)
    before = answers(app)
    reader.follow(UPGRADE, "TimescaleDB")
    assert answers(app) == before


def test_a_copy_of_the_embedded_servers_folder_is_a_backup(public_folder: Path) -> None:
    data, copy = public_folder / "data", public_folder / "copy"
    record = {"model_name": "m", "duration_ms": 1, "was_successful": True}
    with running(public_folder, EMBEDDED_DATA_DIR=str(data)) as service:
        assert service.request("POST", "/api/v1/predict-log", record)[0] == 200
    settings = {"EMBEDDED_DATA_DIR": str(data), "BACKUP_DIR": str(copy)}
    Reader(public_folder, "backup", settings).follow(PAGE, "The embedded server")
    with running(public_folder, EMBEDDED_DATA_DIR=str(copy)) as service:
        assert [each["model_name"] for each in service.request("GET", "/api/v1/predictions")[1]] == ["m"]


def filled(url: str, engine: str) -> Flask:
    """A migrated database with predictions that are materialised, late, deleted and new."""
    app = make_app(url)
    with app.app_context():
        upgrade()
    log(app, [timedelta(minutes=minutes) for minutes in (1, 10, 100, 1_000, 10_000)])
    if engine == "timescale":
        refresh(url)
    log(app, [timedelta(minutes=minutes) for minutes in (15, 1_500)])
    assert app.test_client().delete("/api/v1/predictions/2").status_code == 200
    return app


def log(app: Flask, ages: list[timedelta]) -> None:
    now = datetime.now(timezone.utc)
    records = [
        {
            "model_name": model,
            "duration_ms": 1.5 * n,
            "was_successful": n % 2 == 0,
            "timestamp": (now - age).isoformat(),
        }
        for model in MODELS
        for n, age in enumerate(ages, 1)
    ]
    assert app.test_client().post("/api/v1/predict-logs", json=records).status_code == 200


def answers(app: Flask) -> list[Any]:
    """What does not say how it was made: a restore may leave more or less to be refreshed."""
    client = app.test_client()
    query = {"from": FROM, "to": TO, "percentiles": "50,99"}
    stats = [client.get("/api/v1/stats", query_string={**query, "model_name": model}).json for model in MODELS]
    for each in stats:
        assert each["total_requests"] in (6, 7), each
        del each["freshness"]
    return [stats, client.get("/api/v1/predictions").json]


def goes_on(app: Flask, url: str, engine: str) -> bool:
    """Check that a new prediction gets its own id, and is counted before and after a refresh."""
    client = app.test_client()
    known = {each["id"] for each in client.get("/api/v1/predictions").json}
    counted = total(app)
    log(app, [timedelta(), timedelta(minutes=1_700)])
    assert total(app) == counted + 4
    if engine == "timescale":
        refresh(url)
    assert total(app) == counted + 4
    return len({each["id"] for each in client.get("/api/v1/predictions").json} - known) == 4


def total(app: Flask) -> int:
    query = {"from": (datetime.now(timezone.utc) - timedelta(days=30)).date().isoformat()}
    return int(app.test_client().get("/api/v1/stats", query_string=query).json["total_requests"])


def refresh(url: str) -> None:
    with create_engine(url, isolation_level="AUTOCOMMIT").connect() as connection:
        materialize(connection)


def sqlalchemy_address(server: PostgresServer, database: str) -> str:
    return make_url(server.url).set(database=database).render_as_string(hide_password=False)


def address(server: PostgresServer, database: str) -> str:
    """As libpq takes it."""
    return sqlalchemy_address(server, database).replace("+psycopg2", "")
