"""The roles that compose makes, on a server of this machine: its init scripts, then the commands of its migration."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import yaml
from sqlalchemy import make_url
from sqlalchemy.engine import URL

from support.databases import native
from support.service import clean_environment

ROOT = Path(__file__).parents[1]
SERVICES = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
SECRETS = ("DB_PASSWORD", "PREDLOG_SERVICE_PASSWORD", "PREDLOG_READER_PASSWORD")
PASSWORDS = {name: f"{name.lower()} 'quoted' @:/?" for name in SECRETS}
ADMIN_KEY = secrets.token_hex(32)


@pytest.fixture(scope="module")
def made() -> Iterator[URL]:
    """The address of a database that was made as compose makes it; whose it is has to be said."""
    programs = native.binaries()
    if programs is None:
        pytest.skip(str(native.why_not()))
    with native.start() as url:
        superuser = make_url(url)
        connect(superuser, "CREATE DATABASE predlog")
        database = superuser.set(database="predlog")
        connect(database, f"ALTER ROLE postgres PASSWORD {quoted(PASSWORDS['DB_PASSWORD'])}")
        database = database.set(password=PASSWORDS["DB_PASSWORD"])
        connect(database, "CREATE EXTENSION timescaledb")
        with closing(session(database)) as still, still.cursor() as cursor:
            variables = {
                "POSTGRES_USER": "postgres",
                "POSTGRES_DB": "predlog",
                "POSTGRES_PASSWORD": PASSWORDS["DB_PASSWORD"],
            }
            address = {"PGHOST": "127.0.0.1", "PGPORT": str(database.port), "PGPASSWORD": PASSWORDS["DB_PASSWORD"]}
            path = {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
            scripts = [v.split(":")[0] for v in SERVICES["db"]["volumes"] if "initdb.d" in v]
            assert len(scripts) == 2
            subprocess.run(["sh", ROOT / scripts[0]], env={**variables, **address, **path}, check=True)
            cursor.execute((ROOT / scripts[1]).read_text())
        migrate(database)
        yield database


def migrate(database: URL) -> None:
    there = {"DB_HOST": "127.0.0.1", "DB_PORT": str(database.port), "DB_NAME": "predlog", "DB_USER": "predlog"}
    for line in SERVICES["migrate"]["command"][0].splitlines():
        command = [sys.executable, "-m", *line.split()]
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=clean_environment(**there, **PASSWORDS, PREDLOG_ADMIN_KEY=ADMIN_KEY),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert "Only a superuser" not in done.stderr


def session(address: URL) -> Any:
    connection = psycopg2.connect(address.set(drivername="postgresql").render_as_string(hide_password=False))
    connection.autocommit = True
    return connection


def connect(address: URL, statement: str) -> Any:
    with closing(session(address)) as connection, connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchone() if cursor.description else None


def quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


@pytest.mark.parametrize(
    ("role", "password"),
    [
        ("predlog", "DB_PASSWORD"),
        ("predlog_service", "PREDLOG_SERVICE_PASSWORD"),
        ("predlog_reader", "PREDLOG_READER_PASSWORD"),
    ],
)
def test_each_role_logs_in_with_its_password_and_is_no_superuser(made: URL, role: str, password: str) -> None:
    question = "SELECT rolsuper, has_function_privilege('public', 'pg_advisory_lock(bigint)', 'EXECUTE') FROM pg_roles"
    found = connect(made.set(username=role, password=PASSWORDS[password]), f"{question} WHERE rolname = current_user")
    assert found == (False, False)


def test_nobody_logs_in_as_the_superuser_through_the_network(made: URL) -> None:
    with pytest.raises(psycopg2.OperationalError, match="password"):
        session(made.set(username="postgres", password=PASSWORDS["DB_PASSWORD"]))


def test_the_engine_is_timescaledb_and_the_owner_keeps_its_jobs(made: URL) -> None:
    owner = made.set(username="predlog", password=PASSWORDS["DB_PASSWORD"])
    assert connect(owner, "SELECT engine FROM prediction_stats_state") == ("timescale",)
    connect(owner, "CALL prediction_stats_job(0, '{}')")
