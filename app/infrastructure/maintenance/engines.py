"""The storage engines: TimescaleDB with its Community features, any plain PostgreSQL, or several of them with Citus."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from app.application.retention import Maintenance
from app.infrastructure.maintenance.citus import Citus
from app.infrastructure.maintenance.plain import Plain
from app.infrastructure.maintenance.timescale import Timescale
from app.infrastructure.postgres.database import Database


class StorageEngine(str, Enum):
    """What keeps the aggregates up: TimescaleDB's continuous aggregates, or Predlog's triggers."""

    TIMESCALE = "timescale"
    PLAIN = "plain"
    CITUS = "citus"


def maintenance(database: Database) -> Maintenance:
    """Return the maintenance of the engine that the database was migrated to."""
    made: dict[StorageEngine, Callable[[Database], Maintenance]] = {
        StorageEngine.TIMESCALE: Timescale,
        StorageEngine.PLAIN: Plain,
        StorageEngine.CITUS: Citus,
    }
    return made[StorageEngine(database.storage_engine)](database)
