"""The role that requests are answered with may do that, and no more."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import cast

import pytest
from flask import Flask
from psycopg2 import errors
from psycopg2.extensions import connection as DriverConnection
from sqlalchemy import Engine, create_engine, make_url
from sqlalchemy.exc import OperationalError, ProgrammingError

from app.infrastructure.roles import reader_role, rights
from app.infrastructure.roles.rights import READER_RIGHTS, SERVICE_RIGHTS
from conftest import Server, make_app, migrate
from support.scratch import empty_database

FORBIDDEN = {
    "change a prediction": "UPDATE prediction_log SET duration_ms = 0",
    "empty the log": "TRUNCATE prediction_log",
    "change an aggregate": "UPDATE prediction_stats_minute SET total_requests = 0",
    "forget a change": "DELETE FROM prediction_invalidation",
    "move the watermark": "UPDATE prediction_stats_state SET invalidation_threshold = now()",
    "make a key": "INSERT INTO api_key (name, scope, hash) VALUES ('x', 'admin', sha256('x'))",
    "bring a key back": "UPDATE api_key SET revoked_at = NULL",
    "make a table": "CREATE TABLE made (x integer)",
    "make a temporary table": "CREATE TEMP TABLE made (x integer)",
    "drop the log": "DROP TABLE prediction_log",
    "disable a trigger": "ALTER TABLE prediction_log DISABLE TRIGGER ALL",
    "make a role": "CREATE ROLE made",
    "run a program": "COPY (SELECT 1) TO PROGRAM 'true'",
    "read a file": "SELECT pg_read_file('/etc/passwd')",
    "take an advisory lock": "SELECT pg_advisory_lock(1)",
    "say what is migrated": "UPDATE alembic_version SET version_num = 'x'",
}


@pytest.fixture
def service(server: Server) -> Iterator[Engine]:
    if not server.concurrent:
        pytest.skip("one session for all: nobody can log in as somebody else")
    engine = create_engine(server.service_url, isolation_level="AUTOCOMMIT")
    yield engine
    engine.dispose()


@pytest.mark.parametrize("what", FORBIDDEN)
def test_the_service_may_not(what: str, service: Engine) -> None:
    with service.connect() as connection, pytest.raises(ProgrammingError) as refused:
        connection.exec_driver_sql(FORBIDDEN[what])
    assert isinstance(refused.value.orig, errors.InsufficientPrivilege)


def test_the_service_is_no_superuser(service: Engine) -> None:
    powers = "SELECT rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication FROM pg_roles WHERE rolname = user"
    with service.connect() as connection:
        assert connection.exec_driver_sql(powers).scalar() is False


@pytest.mark.parametrize("other", ["postgres", "template1"])
def test_the_service_may_not_log_in_to_another_database(server: Server, service: Engine, other: str) -> None:
    if make_url(server.service_url).database == other:
        pytest.skip("this is its own")
    engine = create_engine(make_url(server.service_url).set(database=other))
    with pytest.raises(OperationalError, match=f'permission denied for database "{other}"'):
        engine.connect()


def test_every_table_that_is_listed_exists(server: Server, database: Engine) -> None:
    elsewhere = set() if server.engine == "citus" else {"prediction_batch"}
    with database.connect() as connection:
        for relation in {**SERVICE_RIGHTS, **READER_RIGHTS}.keys() - elsewhere:
            assert connection.exec_driver_sql(f"SELECT to_regclass('{relation}')").scalar(), relation


def test_a_command_that_the_role_may_not_run_says_so_in_a_sentence(server: Server, service: Engine) -> None:
    done = make_app(server.service_url).test_cli_runner().invoke(
        args=["keys", "create", "--scope", "admin", "--name", "x"]
    )  # fmt: skip
    assert done.exit_code == 1
    assert "set DATABASE_DIRECT_URL" in done.output
    assert "Traceback" not in done.output


def test_commands_of_the_owner_work_beside_a_service_of_its_own_role(
    server: Server, app: Flask, database: Engine, service: Engine
) -> None:
    run = app.test_cli_runner().invoke
    try:
        assert run(args=["keys", "create", "--scope", "write", "--name", "x"]).exit_code == 0
        assert run(args=["stats", "refresh"]).exit_code == 0
        assert run(args=["lifecycle", "apply"]).exit_code == 0
        assert run(args=["lifecycle", "show"]).exit_code == 0
    finally:
        with database.connect() as connection:
            connection.exec_driver_sql("DELETE FROM api_key")


GIVEN = "GRANT EXECUTE ON ROUTINE prediction_stats_forget TO PUBLIC"
WAITING = (
    "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'REVOKE EXECUTE%%')"
)


def test_rights_that_another_session_changes_meanwhile_are_corrected_after_it(server: Server, database: Engine) -> None:
    if not server.concurrent:
        pytest.skip("one session at a time")
    with database.connect() as other, database.connect() as watcher, ThreadPoolExecutor() as threads:
        other.exec_driver_sql(GIVEN)
        other.exec_driver_sql("BEGIN")
        other.exec_driver_sql("ALTER ROUTINE prediction_stats_forget COST 100")
        corrected = threads.submit(_apply_rights, database)
        until = time.monotonic() + 30
        while not watcher.exec_driver_sql(WAITING).scalar():
            assert time.monotonic() < until, corrected
            time.sleep(0.01)
        other.exec_driver_sql("COMMIT")
        corrected.result(30)
        public = "SELECT has_function_privilege('public', oid, 'EXECUTE') FROM pg_proc WHERE proname = %s"
        assert not other.exec_driver_sql(public, ("prediction_stats_forget",)).scalar()


def _apply_rights(database: Engine) -> None:
    connection = cast(DriverConnection, database.raw_connection())
    with closing(connection), closing(connection.cursor()) as cursor:
        cursor.execute("BEGIN")
        rights.apply(cursor)
        cursor.execute("COMMIT")


# As in PostgreSQL 14, and in its databases that pg_upgrade has brought to a later version.
AS_BEFORE_15 = ("ALTER SCHEMA public OWNER TO CURRENT_USER", "GRANT CREATE ON SCHEMA public TO PUBLIC")
REVOKE = re.compile(r"GRANT CREATE ON SCHEMA public TO \w+; REVOKE CREATE ON SCHEMA public FROM PUBLIC")


@contextmanager
def schema_of_another(server: Server) -> Iterator[tuple[Engine, str]]:
    """A database whose schema belongs to a superuser, with an engine of that one; and the URL of the database's owner.

    The database is migrated and PUBLIC may create functions in the schema.
    """
    if server.engine == "citus" or not server.concurrent:
        pytest.skip("the owner of the database is no superuser here")
    owner = f"owner_{secrets.token_hex(6)}"
    with empty_database(server) as url:
        superuser = create_engine(url, isolation_level="AUTOCOMMIT")
        with superuser.connect() as connection:
            connection.exec_driver_sql(f"CREATE ROLE {owner} LOGIN CREATEROLE PASSWORD '{owner}'")
            connection.exec_driver_sql(f"ALTER DATABASE {superuser.url.database} OWNER TO {owner}")
            for statement in AS_BEFORE_15:
                connection.exec_driver_sql(statement)
            if server.engine == "timescale":
                connection.exec_driver_sql("CREATE EXTENSION IF NOT EXISTS timescaledb")
        owners_url = superuser.url.set(username=owner, password=owner).render_as_string(hide_password=False)
        migrate(owners_url)
        try:
            yield superuser, owners_url
        finally:
            with superuser.connect() as connection:
                connection.exec_driver_sql(f"REASSIGN OWNED BY {owner} TO CURRENT_USER; DROP OWNED BY {owner}")
                connection.exec_driver_sql(f"DROP ROLE {owner}")
            superuser.dispose()


def test_no_role_is_made_where_it_could_put_its_functions_in_the_way_of_the_owners(
    superuser_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    role = f"predlog_reader_{secrets.token_hex(6)}"
    monkeypatch.setattr(rights, "READER", role)
    monkeypatch.setattr(reader_role, "ROLE", role)
    monkeypatch.setenv("PREDLOG_READER_PASSWORD", secrets.token_hex(16))
    roles = f"SELECT count(*) FROM pg_roles WHERE rolname = '{role}'"
    with schema_of_another(superuser_server) as (superuser, url), superuser.connect() as connection:
        run = make_app(url).test_cli_runner().invoke
        refused = run(args=["grafana", "create-reader"])
        commands = REVOKE.search(refused.output)
        assert refused.exit_code == 1
        assert commands, refused.output
        assert connection.exec_driver_sql(roles).scalar() == 0
        connection.exec_driver_sql(commands[0])
        try:
            made = run(args=["grafana", "create-reader"])
            assert made.exit_code == 0, made.output
        finally:
            connection.exec_driver_sql(f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_an_upgrade_warns_of_roles_that_could_put_their_functions_in_the_way_of_the_owners(
    superuser_server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    role = f"predlog_reader_{secrets.token_hex(6)}"
    monkeypatch.setattr(rights, "READER", role)
    with schema_of_another(superuser_server) as (superuser, url), superuser.connect() as connection:
        connection.exec_driver_sql(f"CREATE ROLE {role}")
        try:
            migrate(url)
            commands = REVOKE.search(capsys.readouterr().err)
            assert commands
            connection.exec_driver_sql(commands[0])
            migrate(url)
            assert "REVOKE" not in capsys.readouterr().err
        finally:
            connection.exec_driver_sql(f"DROP OWNED BY {role}; DROP ROLE {role}")
