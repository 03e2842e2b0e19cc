"""The server that TEST_DATABASE_URL names; each start works in a new database there."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import URL, create_engine, make_url, text


def why_not() -> str | None:
    return None if os.environ.get("TEST_DATABASE_URL") else "TEST_DATABASE_URL is not set"


@contextmanager
def start() -> Iterator[str]:
    server = make_url(os.environ["TEST_DATABASE_URL"]).set(drivername="postgresql+psycopg2")
    name = f"predlog_test_{secrets.token_hex(6)}"
    _execute(server, f"CREATE DATABASE {name}")
    try:
        yield server.set(database=name).render_as_string(hide_password=False)
    finally:
        _execute(server, f"DROP DATABASE {name} WITH (FORCE)")


def _execute(server: URL, statement: str) -> None:
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            connection.execute(text(statement))
    finally:
        engine.dispose()
