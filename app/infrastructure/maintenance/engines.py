"""The two storage engines: TimescaleDB with its Community features, or any plain PostgreSQL."""

from __future__ import annotations

from enum import Enum

from app.application.retention import Maintenance
from app.infrastructure.maintenance.plain import Plain
from app.infrastructure.maintenance.timescale import Timescale
from app.infrastructure.postgres.database import Database


class StorageEngine(str, Enum):
    """The keeper of the aggregates: TimescaleDB's continuous aggregates, or Predlog's triggers."""

    TIMESCALE = "timescale"
    PLAIN = "plain"


def maintenance(database: Database) -> Maintenance:
    """Return the maintenance of the engine that the database was migrated to."""
    ((engine,),) = database.read("SELECT engine FROM prediction_stats_state")
    return Timescale(database) if engine == StorageEngine.TIMESCALE else Plain(database)
