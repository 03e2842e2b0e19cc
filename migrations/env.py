"""How Alembic finds the database and the metadata; run by `flask db …`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from alembic import context
from flask import current_app
from psycopg2 import errors
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError, OperationalError

from app.infrastructure import reader_limits, rights
from app.infrastructure.sessions import BehindPooler, refuse_pooler
from app.infrastructure.tables import metadata

# Two replicas that start at once must not migrate at once: the second waits, then finds nothing to do. An advisory lock
# would be anybody's to take; so the session that migrates stands in a table, and one that is gone holds nothing.
LOCK_TABLE = "CREATE TABLE IF NOT EXISTS alembic_version_lock (pid integer, since timestamptz)"
LOCK_OUT = "LOCK TABLE alembic_version_lock IN EXCLUSIVE MODE"
FORGET_THE_GONE = """
DELETE FROM alembic_version_lock l
WHERE  pid = pg_backend_pid()
   OR  NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.pid = l.pid AND coalesce(a.backend_start = l.since, true))
"""
HOLD = """
INSERT INTO alembic_version_lock
SELECT pg_backend_pid(), (SELECT backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid())
WHERE  NOT EXISTS (SELECT FROM alembic_version_lock)
"""
RELEASE = "DELETE FROM alembic_version_lock WHERE pid = pg_backend_pid()"
LOOK_AGAIN_AFTER_S = 0.2
# Two sessions have made the table at the same moment.
MADE_MEANWHILE = (errors.UniqueViolation, errors.DuplicateTable)


def include_name(name: str | None, type_: str, parent_names: dict[str, str | None]) -> bool:
    """Leave to the migrations what SQLAlchemy does not describe: aggregates and what TimescaleDB makes itself."""
    return type_ != "table" or name in metadata.tables


def run_migrations_online() -> None:
    engine = current_app.extensions["migrate"].db.engine
    with _connect(engine) as connection:
        _check(connection)
        with _alone(connection), reader_limits.enforced(engine):
            # A migration may take what it needs; the limits of the service's own statements are not for it.
            connection.execute(text("SET statement_timeout = 0"))
            connection.commit()
            context.configure(
                connection=connection,
                target_metadata=metadata,
                include_name=include_name,
                transaction_per_migration=True,
                **current_app.extensions["migrate"].configure_args,
            )
            with context.begin_transaction():
                context.run_migrations()
            connection.commit()
            with connection.begin(), connection.connection.cursor() as cursor:
                rights.apply(cursor)


@contextmanager
def _alone(connection: Connection) -> Iterator[None]:
    """Wait for whoever else migrates, and hold off whoever comes."""
    while not _hold(connection):
        time.sleep(LOOK_AGAIN_AFTER_S)
    try:
        yield
    finally:
        connection.rollback()
        connection.execute(text(RELEASE))
        connection.execute(text("RESET statement_timeout"))
        connection.commit()


def _hold(connection: Connection) -> bool:
    try:
        for statement in (LOCK_TABLE, LOCK_OUT, FORGET_THE_GONE):
            connection.execute(text(statement))
        held = connection.execute(text(HOLD)).rowcount == 1
        connection.commit()
        return held
    except DBAPIError as error:
        connection.rollback()
        if isinstance(error.orig, MADE_MEANWHILE):
            return False
        if isinstance(error.orig, errors.InsufficientPrivilege):
            raise SystemExit(
                "This role may not migrate: set DATABASE_DIRECT_URL to the address of the database with the role that "
                "owns it."
            ) from None
        raise


def _connect(engine: Engine) -> Connection:
    try:
        return engine.connect()
    except OperationalError as error:
        raise SystemExit(f"The database is not available: {str(error.orig).strip()}") from None


def _check(connection: Connection) -> None:
    try:
        refuse_pooler(connection)
    except BehindPooler as error:
        raise SystemExit(str(error)) from None
    encoding = connection.scalar(text("SHOW server_encoding"))
    if encoding != "UTF8":
        raise SystemExit(
            f"The database is encoded as {encoding}, which cannot keep every text: make it with ENCODING 'UTF8'."
        )


if context.is_offline_mode():
    raise SystemExit("flask db --sql is not supported: the migrations look at the database to choose their engine.")
run_migrations_online()
