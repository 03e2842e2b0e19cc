"""What is checked before migrations run; if they cannot run, the command ends with a sentence."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import cast

from psycopg2.extensions import connection as DriverConnection
from sqlalchemy import Connection, text

from app.domain.errors import PredlogError
from app.infrastructure.postgres import session_settings
from app.infrastructure.postgres.schema import MIGRATIONS

EXTENSION = "SELECT extnamespace::regnamespace FROM pg_extension WHERE extname = 'timescaledb'"
OUT_OF_REACH = f"{EXTENSION} AND extnamespace::regnamespace::name <> ALL (current_schemas(true))"
CITUS = "SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'citus')"
REFUSALS = Path(MIGRATIONS, "sql", "citus", "refusals.sql")


def check(connection: Connection) -> None:
    """End the command with an error if migrations cannot run; otherwise apply session_settings.PINNED to them."""
    try:
        session_settings.refuse_pooler(connection)
        session_settings.pin(cast(DriverConnection, connection.connection.driver_connection))
    except PredlogError as error:
        raise SystemExit(str(error)) from None
    if not connection.scalar(text("SELECT current_schema()")):
        raise SystemExit("No schema of the search path exists: make it with CREATE SCHEMA, or name another one.")
    if schema := connection.scalar(text(OUT_OF_REACH)):
        raise SystemExit(
            f"TimescaleDB is in the schema {schema}, which the search path leaves out: name it, too, at the end."
        )
    if connection.scalar(text(CITUS)):
        _refuse_citus(connection)
    connection.commit()


def _refuse_citus(connection: Connection) -> None:
    """End the command with an error if Predlog would be wrong, or would not work, on this Citus as it is set up."""
    with closing(connection.connection.cursor()) as cursor:
        cursor.execute(REFUSALS.read_text())
        if refusal := cursor.fetchone():
            raise SystemExit(refusal[0])
        cursor.execute("SELECT to_regclass('prediction_stats_state') IS NOT NULL")
        if (cursor.fetchone() or (False,))[0]:
            cursor.execute("SELECT engine FROM prediction_stats_state WHERE engine <> 'citus'")
            if engine := cursor.fetchone():
                raise SystemExit(
                    f"The database has Citus, and its tables were made for the engine {engine[0]}, which Citus cannot "
                    "distribute: export the predictions, and import them into a new database that has Citus from the "
                    "beginning."
                )
