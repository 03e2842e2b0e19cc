"""The condition of the database, read in one short statement."""

from __future__ import annotations

from app.application.database_stats import Condition
from app.infrastructure.postgres.database import Database

CONDITION = """
SELECT engine,
       extract(epoch FROM greatest(now() - watermark, INTERVAL '0'))::float8,
       (SELECT count(*) FROM prediction_invalid_hour),
       pg_database_size(current_database())
FROM   prediction_stats_state
"""


class PostgresDatabaseStatsStore:
    """The figures that the database keeps of itself."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def read(self) -> Condition:
        """Read the condition. Raises StorageUnavailable."""
        return Condition(*self._database.read(CONDITION)[0])
