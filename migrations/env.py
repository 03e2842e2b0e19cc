"""How Alembic finds the database and the metadata; run by `flask db …`."""

from __future__ import annotations

from typing import cast

from alembic import context
from flask import current_app
from psycopg2.extensions import connection as DriverConnection
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import OperationalError

from app.domain.errors import PredlogError
from app.infrastructure import sessions
from app.infrastructure.tables import metadata

# Two replicas that start at once must not migrate at once: the second waits here, then finds nothing to do.
MIGRATION_LOCK = 0x70726564


EXTENSION = "SELECT extnamespace::regnamespace FROM pg_extension WHERE extname = 'timescaledb'"
OUT_OF_REACH = f"{EXTENSION} AND extnamespace::regnamespace::name <> ALL (current_schemas(true))"
WHERE_WE_ARE = "SELECT quote_ident(current_database()), current_setting('search_path')"


def include_name(name: str | None, type_: str, parent_names: dict[str, str | None]) -> bool:
    """Leave to the migrations what SQLAlchemy does not describe: aggregates and what TimescaleDB makes itself."""
    return type_ != "table" or name in metadata.tables


def run_migrations_online() -> None:
    with _connect(current_app.extensions["migrate"].db.engine) as connection:
        _check(connection)
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": MIGRATION_LOCK})
        connection.commit()
        # A migration may take what it needs; the limits of the service's own statements are not for it.
        connection.execute(text("SET statement_timeout = 0"))
        connection.commit()
        try:
            context.configure(
                connection=connection,
                target_metadata=metadata,
                include_name=include_name,
                transaction_per_migration=True,
                **current_app.extensions["migrate"].configure_args,
            )
            with context.begin_transaction():
                context.run_migrations()
            if "search_path" in str(connection.engine.url.query.get("options", "")):
                _tell_jobs_the_search_path(connection)
        finally:
            connection.rollback()
            connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": MIGRATION_LOCK})
            connection.execute(text("RESET statement_timeout"))
            connection.commit()


def _connect(engine: Engine) -> Connection:
    try:
        return engine.connect()
    except OperationalError as error:
        raise SystemExit(f"The database is not available: {str(error.orig).strip()}") from None


def _tell_jobs_the_search_path(connection: Connection) -> None:
    """Have TimescaleDB's jobs, which do not come by our address, find the tables where it says that they are."""
    if connection.scalar(text(EXTENSION)):
        name, path = connection.execute(text(WHERE_WE_ARE)).one()
        statement = f"ALTER ROLE CURRENT_USER IN DATABASE {name} SET search_path = {path}"
        connection.exec_driver_sql(statement.replace("%", "%%"), {})
    connection.commit()


def _check(connection: Connection) -> None:
    """End with a sentence where the migrations could not run; else have sessions.PINNED hold while they do."""
    try:
        sessions.refuse_pooler(connection)
        sessions.pin(cast(DriverConnection, connection.connection.driver_connection))
    except PredlogError as error:
        raise SystemExit(str(error)) from None
    if not connection.scalar(text("SELECT current_schema()")):
        raise SystemExit("No schema of the search path exists: make it with CREATE SCHEMA, or name another one.")
    if schema := connection.scalar(text(OUT_OF_REACH)):
        raise SystemExit(
            f"TimescaleDB is in the schema {schema}, which the search path leaves out: name it, too, at the end."
        )
    connection.commit()


if context.is_offline_mode():
    raise SystemExit("flask db --sql is not supported: the migrations look at the database to choose their engine.")
run_migrations_online()
