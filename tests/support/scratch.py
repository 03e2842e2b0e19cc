"""A database of a test's own, for what must not happen to the one that all tests share."""

from __future__ import annotations

import os
import secrets
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from psycopg2.errors import InsufficientPrivilege, ObjectInUse
from sqlalchemy import create_engine, make_url
from sqlalchemy.exc import DBAPIError

from app.infrastructure.embedded import EmbeddedPostgres
from conftest import Server
from support.databases import citus
from support.ports import refusing_port


@contextmanager
def empty_database(server: Server, options: str = "") -> Iterator[str]:
    """The URL of an empty database of the same kind as the server's, made with options; it goes away afterwards."""
    if server.provider and not server.provider.concurrent:  # has one database only: take another server
        with server.provider.start() as url:
            yield url
        return
    if server.engine == "citus":
        with citus.database(citus.cluster_of(server.url), options) as url:
            yield url
        return
    name = f"predlog_scratch_{secrets.token_hex(6)}"
    _execute(server.url, f"CREATE DATABASE {name} TEMPLATE template0 {options}")
    try:
        yield make_url(server.url).set(database=name).render_as_string(hide_password=False)
    finally:
        drop_database(server.url, name)


@contextmanager
def embedded_server() -> Iterator[EmbeddedPostgres]:
    """An embedded server of a test's own, started and empty."""
    with tempfile.TemporaryDirectory(prefix="predlog-tests-") as folder:
        os.chmod(folder, 0o755)  # if root starts the server, it runs as another user
        with EmbeddedPostgres(Path(folder, "data")) as server:
            yield server


def url_where_nobody_listens() -> str:
    """A database URL whose port refuses every connection at once."""
    return f"postgresql+psycopg2://nobody:secret-password@127.0.0.1:{refusing_port()}/nowhere"


def drop_database(url: str, name: str) -> None:
    """Drop the database of this name, quoted if need be; it may be none.

    Autovacuum may be at work there, which none but a superuser can end, or a process that ends slowly: wait.
    """
    until = time.monotonic() + 60
    while True:
        try:
            return _execute(url, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        except DBAPIError as error:
            if not isinstance(error.orig, (InsufficientPrivilege, ObjectInUse)) or time.monotonic() > until:
                raise
        time.sleep(0.2)


def _execute(url: str, statement: str) -> None:
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql(statement)
    finally:
        engine.dispose()
