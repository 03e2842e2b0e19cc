"""The two storage engines: TimescaleDB with its Community features, or any plain PostgreSQL."""

from __future__ import annotations

from enum import Enum

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from app.application.retention import Maintenance
from app.infrastructure.maintenance.plain import Plain
from app.infrastructure.maintenance.timescale import Timescale
from app.infrastructure.postgres.database import Database


class StorageEngine(str, Enum):
    """Who keeps the aggregates: TimescaleDB's continuous aggregates, or triggers of our own."""

    TIMESCALE = "timescale"
    PLAIN = "plain"


def detect(connection: Connection) -> StorageEngine:
    """Find out what the database can do, and create the extension where it may be.

    The Apache-only build of TimescaleDB counts as plain PostgreSQL: it has no continuous aggregates.
    """
    if not _loadable(connection):
        return StorageEngine.PLAIN
    attempt = connection.begin_nested()
    try:
        connection.execute(text("CREATE EXTENSION IF NOT EXISTS timescaledb"))
    except DBAPIError:  # we may not
        attempt.rollback()
        return StorageEngine.PLAIN
    if connection.scalar(text("SELECT current_setting('timescaledb.license', true)")) != "timescale":
        attempt.rollback()
        return StorageEngine.PLAIN
    attempt.commit()
    return StorageEngine.TIMESCALE


def chosen(connection: Connection) -> StorageEngine:
    """The engine that the database was migrated to."""
    return StorageEngine(connection.scalar(text("SELECT engine FROM prediction_stats_state")))


def _loadable(connection: Connection) -> bool:
    """Whether the extension is there already, or the server has its library loaded: else it would end the session."""
    if connection.scalar(text("SELECT count(*) FROM pg_extension WHERE extname = 'timescaledb'")):
        return True
    # A setting of the loaded library: shared_preload_libraries itself is not for every role to read.
    return bool(
        connection.scalar(text("SELECT current_setting('timescaledb.max_background_workers', true) IS NOT NULL"))
    )


def maintenance(database: Database) -> Maintenance:
    """What keeps the engine up that the database was migrated to."""
    ((engine,),) = database.read("SELECT engine FROM prediction_stats_state")
    return Timescale(database) if engine == StorageEngine.TIMESCALE else Plain(database)
