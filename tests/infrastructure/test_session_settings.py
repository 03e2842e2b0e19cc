"""No setting of the server, the database, the role or the environment changes an answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from flask_migrate import upgrade
from sqlalchemy import make_url

from app.infrastructure.embedded import EmbeddedPostgres
from app.infrastructure.postgres.database import Database
from app.infrastructure.postgres.session_settings import PINNED, WrongEncoding
from config import MAX_TIMEOUT_MS
from conftest import Server, make_app
from support.pooler import pgbouncer, program
from support.scratch import drop_database, embedded_server, empty_database
from support.service import Service

# Each value would change an answer or a stored row if it held.
HOSTILE = {
    "client_encoding": "LATIN1",
    "DateStyle": "German, DMY",
    "IntervalStyle": "sql_standard",
    "TimeZone": "Asia/Kathmandu",
    "extra_float_digits": "-15",
    "array_nulls": "off",
    "bytea_output": "escape",
    "standard_conforming_strings": "off",
    "transform_null_equals": "on",
    "default_transaction_isolation": "serializable",
    "default_transaction_deferrable": "on",
    "row_security": "on",
    "synchronous_commit": "off",
    "session_replication_role": "replica",  # no trigger would fire
}
RECORDS: list[dict[str, Any]] = [
    {"model_name": "цена «квартиры»", "duration_ms": 0.1, "was_successful": True, "timestamp": "2025-06-09T12:00:00Z",
     "request_id": "0190163d-8694-739b-aea5-966c26f8ad90"},
    {"model_name": "цена «квартиры»", "duration_ms": 12345.678901234567, "was_successful": False, "error": "NULL",
     "timestamp": "2025-03-04T23:59:59.999999+05:30", "model_version": "NULL", "metadata": {"п": "\\u00e9", "n": 1e-7},
     "request_id": "0190163d-8694-739b-aea5-966c26f8ad91"},
    {"model_name": r"back\slash 'quote' %s", "duration_ms": 1e-300, "was_successful": True, "error": "null",
     "timestamp": "2025-10-26T01:30:00+02:00", "request_id": "0190163d-8694-739b-aea5-966c26f8ad92"},
]  # fmt: skip
QUESTIONS = [
    "/api/v1/predictions?limit=100",
    "/api/v1/predictions?from=2025-03-04&to=2025-03-05&timezone=Asia/Kathmandu",
    "/api/v1/predictions?model_version=",
    "/api/v1/stats?group_by=model_name,model_version&percentiles=0,50,99,100",
    "/api/v1/stats?from=2025-03-04T18:29:59.999999Z&to=2025-06-09T12:00:00.000001Z",
    "/api/v1/stats/timeseries?from=2025-03-01&to=2025-11-01&bucket=1d&timezone=Europe/Berlin",
    "/api/v1/stats/compare?version_a=&version_b=NULL",
    "/api/v1/models",
]


def answers(client: FlaskClient) -> list[Any]:
    """Store the records, alone and in a batch, ask about them, delete one and ask again."""
    seen: list[Any] = []
    for record in RECORDS[:2]:
        response = client.post("/api/v1/predict-log", json=record)
        seen.append((response.status_code, response.json))
    response = client.post("/api/v1/predict-logs", json=RECORDS)
    seen.append((response.status_code, response.json))
    for _ in range(2):
        for question in QUESTIONS:
            response = client.get(question)
            seen.append((question, response.status_code, comparable(response.json)))
        newest = client.get("/api/v1/predictions?limit=1").json[0]
        seen.append(client.delete(f"/api/v1/predictions/{newest['id']}").status_code)
    return seen


def comparable(answer: Any) -> Any:
    """Without what depends on the moment, or on how many records there ever were."""
    if isinstance(answer, dict):
        apart = ("freshness", "id", "silent", "to", "range")
        return {key: comparable(value) for key, value in answer.items() if key not in apart}
    return [comparable(item) for item in answer] if isinstance(answer, list) else answer


@contextmanager
def database(server: Server) -> Iterator[str]:
    """A migrated database of a test's own."""
    with empty_database(server) as url:
        with make_app(url).app_context():
            upgrade()
        yield url


@contextmanager
def hostile(url: str, level: str, names: list[str]) -> Iterator[None]:
    """The settings hold for every session of the database, or of the role, that says nothing itself."""
    admin = Database(url)
    role, name = admin.rows("SELECT quote_ident(current_user), quote_ident(current_database())")[0]
    owner = {"database": f"DATABASE {name}", "role": f"ROLE {role} IN DATABASE {name}"}[level]
    try:
        for setting in names:
            values = ", ".join(f"'{value}'" for value in HOSTILE[setting].split(", "))
            admin.count(f"ALTER {owner} SET {setting} = {values}", {})
        yield
    finally:
        admin.count(f"ALTER {owner} RESET ALL", {})
        admin.engine.dispose()


@pytest.fixture(scope="module")
def expected(superuser_servers: Callable[[str], Server]) -> list[Any]:
    """The answers of the service without any of these settings."""
    with database(superuser_servers("plain")) as url:
        return ids_left_out(answers(client_of(make_app(url))))


def settings_of(server: Server) -> list[str]:
    """All of them; Citus hands them on to its nodes, where the service has no session to pin them in.

    With one of them triggers would not run there, and the database is not migrated.
    """
    return [name for name in HOSTILE if server.engine != "citus" or name != "session_replication_role"]


def client_of(app: Flask) -> FlaskClient:
    return app.test_client()


def ids_left_out(seen: list[Any]) -> list[Any]:
    return [tuple(map(comparable, item)) if isinstance(item, tuple) else item for item in seen]


@pytest.mark.parametrize("level", ["database", "role"])
def test_no_setting_changes_an_answer(superuser_server: Server, expected: list[Any], level: str) -> None:
    """All of them at once, migrated and served under them."""
    if not superuser_server.concurrent:
        pytest.skip("its only database cannot be given settings")
    with empty_database(superuser_server) as url, hostile(url, level, settings_of(superuser_server)):
        app = make_app(url)
        with app.app_context():
            upgrade()
        assert app.test_client().get("/ready").status_code == 200
        assert ids_left_out(answers(client_of(app))) == expected


@pytest.mark.parametrize("setting", HOSTILE)
def test_a_setting_alone_changes_no_answer(
    superuser_servers: Callable[[str], Server], expected: list[Any], setting: str
) -> None:
    with database(superuser_servers("plain")) as url, hostile(url, "database", [setting]):
        assert ids_left_out(answers(client_of(make_app(url)))) == expected


def test_no_setting_changes_an_answer_behind_a_pooler(superuser_server: Server, expected: list[Any]) -> None:
    if program() is None or not superuser_server.concurrent:
        pytest.skip("there is no pgbouncer here, or nothing for it to do")
    names = settings_of(superuser_server)
    with database(superuser_server) as url, hostile(url, "database", names), pgbouncer(url) as pooled:
        assert ids_left_out(answers(client_of(make_app(pooled)))) == expected


VARIABLES = {
    "PGCLIENTENCODING": "LATIN1",
    "PGTZ": "Asia/Kathmandu",
    "PGDATESTYLE": "German",
    "PGOPTIONS": "-c extra_float_digits=-15 -c TimeZone=Asia/Tokyo -c default_transaction_isolation=serializable",
}


@pytest.mark.parametrize("name", VARIABLES)
def test_no_variable_of_libpq_changes_an_answer(
    superuser_servers: Callable[[str], Server], expected: list[Any], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with database(superuser_servers("plain")) as url:
        monkeypatch.setenv(name, VARIABLES[name])
        assert ids_left_out(answers(client_of(make_app(url)))) == expected


def test_acknowledged_commits_are_on_disk_whatever_the_server_says(superuser_servers: Callable[[str], Server]) -> None:
    with database(superuser_servers("plain")) as url, hostile(url, "database", ["synchronous_commit"]):
        assert Database(url).rows("SELECT current_setting('synchronous_commit')") == [("on",)]
    with empty_database(superuser_servers("plain")) as url:
        admin = Database(url)
        admin.count(f"ALTER DATABASE {make_url(url).database} SET synchronous_commit = remote_apply", {})
        assert Database(url).rows("SELECT current_setting('synchronous_commit')") == [("remote_apply",)]


def test_what_the_address_says_of_the_schema_holds_behind_a_pooler(server: Server) -> None:
    if program() is None or not server.concurrent:
        pytest.skip("there is no pgbouncer here, or nothing for it to do")
    with pgbouncer(server.url) as pooled:
        database = Database(
            make_url(pooled).update_query_dict({"options": '-csearch_path="a b",c'}).render_as_string(False)
        )
        assert database.rows("SELECT current_setting('search_path')") == [('"a b", c',)]
        database.engine.dispose()


def test_every_pinned_setting_is_one_that_any_role_may_set(superuser_servers: Callable[[str], Server]) -> None:
    contexts = Database(superuser_servers("plain").url).rows("SELECT lower(name), context FROM pg_settings")
    context_of = {str(name): context for name, context in contexts}
    assert {context_of[name] for name in PINNED} == {"user"}


@pytest.fixture(scope="module")
def embedded() -> Iterator[EmbeddedPostgres]:
    with embedded_server() as server:
        yield server


@pytest.fixture
def latin(embedded: EmbeddedPostgres) -> Iterator[str]:
    """A database that cannot keep every text."""
    admin = Database(embedded.url)
    admin.count("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0", {})
    yield make_url(embedded.url).set(database="latin").render_as_string(hide_password=False)
    admin.engine.dispose()
    drop_database(embedded.url, "latin")


def test_a_database_that_cannot_keep_every_text_is_refused_with_a_sentence(latin: str) -> None:
    with pytest.raises(WrongEncoding, match=r"encoded as LATIN1.*ENCODING 'UTF8'"):
        Database(latin).rows("SELECT 1")
    app = make_app(latin)
    response = app.test_client().get("/ready")
    assert (response.status_code, "LATIN1" in response.json["message"]) == (503, True)
    with app.app_context(), pytest.raises(SystemExit, match="encoded as LATIN1"):
        upgrade()


@pytest.mark.parametrize("arguments", [[], ["--no-migrate"]])
def test_the_start_refuses_it_too(latin: str, arguments: list[str], tmp_path: Any) -> None:
    service = Service(tmp_path, *arguments, DATABASE_URL=latin)
    assert service.process.wait(timeout=120) == 2
    assert service.log.startswith("predlog: The database is encoded as LATIN1")
    assert "Traceback" not in service.log


def test_postgresql_takes_the_longest_timeouts_that_the_settings_take(server: Server) -> None:
    names = ("statement_timeout_ms", "lock_timeout_ms", "list_timeout_ms")
    client = make_app(server.url, **dict.fromkeys(names, MAX_TIMEOUT_MS)).test_client()
    assert client.get("/api/v1/predictions").status_code == 200
