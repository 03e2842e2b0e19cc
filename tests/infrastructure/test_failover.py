"""After a failover: what cannot write any more is replaced, and ready is a service that can write, and no other."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from flask_migrate import upgrade
from sqlalchemy import make_url

from app.infrastructure.postgres.database import FRESH_S, Database
from app.infrastructure.postgres.database_url import canonical
from conftest import Server, make_app
from support.capture import statements
from support.databases import native
from support.replication import TIMEOUT, PostgresServer, primary_and_replica
from support.scratch import empty_database

BODY = {"model_name": "m", "duration_ms": 1, "was_successful": True}
REPLAYED = "SELECT pg_last_wal_replay_lsn() >= %(position)s::pg_lsn"
PROMOTE = "SELECT pg_promote(true, 60)"
READ_ONLY = "default_transaction_read_only"


@pytest.fixture(params=["plain", "timescale"])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[PostgresServer, PostgresServer]]:
    """A migrated primary and a replica that has all of it."""
    if request.param == "timescale" and native.why_not():
        pytest.skip(f"no TimescaleDB that can have a replica: {native.why_not()}")
    with primary_and_replica(request.param) as (primary, replica):
        with make_app(primary.url).app_context():
            upgrade()
        on_primary, on_replica = Database(primary.url), Database(replica.url)
        ((position,),) = on_primary.rows("SELECT pg_current_wal_flush_lsn()::text")
        eventually(lambda: on_replica.read(REPLAYED, {"position": position}) == [(True,)])
        on_primary.engine.dispose()
        on_replica.engine.dispose()
        yield primary, replica


def eventually(holds: Callable[[], Any]) -> None:
    until = time.monotonic() + TIMEOUT
    while not holds():
        assert time.monotonic() < until, "it has not come about"
        time.sleep(0.05)


def write(client: FlaskClient) -> int:
    return client.post("/api/v1/predict-log", json=BODY).status_code


def ready(client: FlaskClient) -> int:
    return client.get("/ready").status_code


def fill_the_pool(app: Flask, size: int = 4) -> None:
    """Have several connections made, and let them grow older than FRESH_S."""
    barrier = threading.Barrier(size)

    def ask() -> None:
        barrier.wait()
        app.test_client().get("/api/v1/stats")

    threads = [threading.Thread(target=ask) for _ in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    time.sleep(FRESH_S + 0.1)


def of_both(pair: tuple[PostgresServer, PostgresServer]) -> str:
    addresses = [make_url(server.url) for server in pair]
    places = ",".join(f"127.0.0.1:{address.port}" for address in addresses)
    return canonical(f"postgresql://{addresses[0].username}:{addresses[0].password}@{places}/postgres", writes=True)


def test_with_both_addresses_the_service_writes_to_whichever_server_is_the_primary(
    pair: tuple[PostgresServer, PostgresServer],
) -> None:
    primary, replica = pair
    app = make_app(of_both(pair))
    client = app.test_client()
    assert write(client) == 200
    fill_the_pool(app)
    primary.stop()
    Database(replica.url).rows(PROMOTE)
    eventually(lambda: ready(client) == 200)
    assert [write(client) for _ in range(10)] == [200] * 10
    assert client.get("/api/v1/stats").status_code == 200


def test_a_service_on_a_replica_is_not_ready_and_writes_as_soon_as_it_is_promoted(
    pair: tuple[PostgresServer, PostgresServer],
) -> None:
    """One address that leads to what was the replica, as a virtual one does: the connections outlive the promotion."""
    _, replica = pair
    app = make_app(replica.url)
    client = app.test_client()
    assert client.get("/api/v1/stats").status_code == 200
    fill_the_pool(app)
    response = client.get("/ready")
    assert (response.status_code, response.json["message"]) == (503, "The database is read-only.")
    assert write(client) == 503
    Database(replica.url).rows(PROMOTE)
    eventually(lambda: ready(client) == 200)
    assert [write(client) for _ in range(10)] == [200] * 10


@contextmanager
def setting(database: Database, owner: str) -> Iterator[None]:
    """The owner's sessions are read-only from their beginning."""
    admin = Database(database.engine.url.render_as_string(hide_password=False))
    with admin.connection() as connection:
        connection.exec_driver_sql(f"ALTER {owner} SET {READ_ONLY} = on")
        if owner == "SYSTEM":
            connection.exec_driver_sql("SELECT pg_reload_conf()")
        try:
            yield
        finally:
            connection.exec_driver_sql(f"SET {READ_ONLY} = off")
            connection.exec_driver_sql(f"ALTER {owner} RESET {READ_ONLY}")
            connection.exec_driver_sql("SELECT pg_reload_conf()")
    admin.engine.dispose()


@pytest.fixture
def fenced(superuser_server: Server) -> Iterator[tuple[Flask, Database]]:
    """A service on a database of its own, and a way past it."""
    if not superuser_server.concurrent:
        pytest.skip("its only database cannot be given settings")
    with empty_database(superuser_server) as url:
        app = make_app(url)
        with app.app_context():
            upgrade()
        database = Database(url)
        yield app, database
        database.engine.dispose()


@pytest.mark.parametrize("level", ["SYSTEM", "DATABASE", "ROLE"])
def test_a_server_that_was_made_read_only_is_not_ready_and_no_connection_stays_so(
    fenced: tuple[Flask, Database], level: str
) -> None:
    app, database = fenced
    client = app.test_client()
    role, name = database.rows("SELECT quote_ident(current_user), quote_ident(current_database())")[0]
    owner = {"SYSTEM": "SYSTEM", "DATABASE": f"DATABASE {name}", "ROLE": f"ROLE {role} IN DATABASE {name}"}[level]
    assert (ready(client), write(client)) == (200, 200)
    with setting(database, owner):
        app.extensions["predlog"].readiness._schema._database.reconnect()  # as after a failover
        eventually(lambda: ready(client) == 503)
        fill_the_pool(app)
        assert client.get("/ready").json["message"] == "The database is read-only."
        assert (write(client), client.get("/api/v1/stats").status_code) == (503, 200)
    eventually(lambda: write(client) == 200)  # without a question to /ready
    assert [write(client) for _ in range(20)] == [200] * 20
    assert ready(client) == 200


def test_a_write_is_repeated_on_a_new_connection_if_an_old_one_takes_none(
    fenced: tuple[Flask, Database],
) -> None:
    app, _ = fenced
    client = app.test_client()
    service_database = app.extensions["predlog"].readiness._schema._database
    fill_the_pool(app)
    with service_database.connection() as connection:
        connection.exec_driver_sql(f"SET {READ_ONLY} = on")  # what a failover leaves behind
    assert write(client) == 200


def test_a_server_that_stays_read_only_is_not_asked_for_a_connection_at_each_write(
    fenced: tuple[Flask, Database],
) -> None:
    app, database = fenced
    client = app.test_client()
    (name,) = database.rows("SELECT quote_ident(current_database())")[0]
    with setting(database, f"DATABASE {name}"):
        app.extensions["predlog"].readiness._schema._database.reconnect()
        began = time.monotonic()
        with statements() as sent:
            assert [write(client) for _ in range(10)] == [503] * 10
        aged = (time.monotonic() - began) // FRESH_S  # so often at most has the connection grown old meanwhile
        tries = [statement for statement in sent if "INSERT INTO prediction_log" in statement.text]
        assert len(tries) <= 12 + aged, "one try each, and a second one where the connection was old"


@pytest.mark.parametrize("table", ["prediction_log", "prediction_dropped", "api_key"])
def test_a_service_without_one_of_its_tables_is_not_ready(fenced: tuple[Flask, Database], table: str) -> None:
    app, database = fenced
    database.count(f"ALTER TABLE {table} RENAME TO elsewhere", {})
    response = app.test_client().get("/ready")
    assert (response.status_code, table in response.json["message"]) == (503, True)


def test_a_service_whose_role_may_not_write_is_not_ready(fenced: tuple[Flask, Database], model: str) -> None:
    _, database = fenced
    role = f"reader_{model[-12:]}"
    database.count(f"CREATE ROLE {role} LOGIN PASSWORD 'secret'", {})
    database.count(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}", {})
    try:
        url = database.engine.url.set(username=role, password="secret").render_as_string(hide_password=False)
        client = make_app(url).test_client()
        assert client.get("/api/v1/stats").status_code == 200
        assert "prediction_log" in client.get("/ready").json["message"]
        assert write(client) == 503, "an operator's mistake, which a later try may find mended"
    finally:
        database.count(f"DROP OWNED BY {role}", {})
        database.count(f"DROP ROLE {role}", {})
