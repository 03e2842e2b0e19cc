"""The condition of the database, read in one short statement."""

from __future__ import annotations

from app.application.database_stats import Condition
from app.infrastructure import citus
from app.infrastructure.postgres.database import Database

CONDITION = """
SELECT engine,
       extract(epoch FROM greatest(now() - watermark, INTERVAL '0'))::float8,
       (SELECT count(*) FROM prediction_invalid_hour),
       {size}
FROM   prediction_stats_state
"""


SIZE = "pg_database_size(current_database())"


class PostgresDatabaseStatsStore:
    """The figures that the database keeps of itself."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def read(self) -> Condition:
        """Read the condition. Raises StorageUnavailable."""
        size = citus.SIZE if citus.is_distributed(self._database) else SIZE
        return Condition(*self._database.read(CONDITION.format(size=size))[0])
