"""Maintenance of the plain engine: triggers keep the rollups exact at every moment, so only retention is left."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from app.application.retention import LifeCycle, Overview, Progress
from app.domain.errors import StorageUnavailable
from app.infrastructure.dropped_store import RETAIN as RETAIN_DROPPED
from app.infrastructure.maintenance.relations import LOGGED, REPORTED, ordinary
from app.infrastructure.postgres.database import Database
from app.infrastructure.summary_rows import RETAIN as RETAIN_SUMMARIES

PIECE = 20_000
LOCK_LOG = "LOCK TABLE prediction_log IN SHARE MODE"
LOCK_NOT_AVAILABLE = "55P03"
MAX_TURNS = 60
TRY_AGAIN_AFTER_S = 1.0
SHORT_TURN_MS = 250

# PostgreSQL ends an autovacuum for a session that has waited for it for deadlock_timeout.
LONG_TURN_EVERY = 5
LONG_TURN_MS = f"SELECT setting::integer + {SHORT_TURN_MS} FROM pg_settings WHERE name = 'deadlock_timeout'"

# As on TimescaleDB, the edge moves while no writer is under way, and rows are deleted only afterwards. The edge of a
# level never passes the edge of the finer level, because a delete refreshes buckets from the finer ones.
MOVE_EDGE = """
WITH   edge AS (SELECT CASE WHEN {finer} IS NOT NULL
                            THEN least(date_bin('1 day', now() - %(keep)s, 'epoch'), {finer}) END AS at
                FROM   prediction_stats_state)
UPDATE prediction_stats_state
SET    {level}_from = edge.at, generation = generation + 1
FROM   edge
WHERE  edge.at > coalesce({level}_from, '-infinity')
"""

# The setting tells the trigger that the deleted rows stay in the rollups.
DROP_ROWS = """
DELETE FROM prediction_log
WHERE  ctid = ANY (ARRAY(SELECT ctid FROM prediction_log
                         WHERE  timestamp < (SELECT raw_from FROM prediction_stats_state) LIMIT %(piece)s))
"""
DROP_BUCKETS = """
DELETE FROM {relation}
WHERE  ctid = ANY (ARRAY(SELECT ctid FROM {relation}
                         WHERE  bucket < (SELECT {level}_from FROM prediction_stats_state) LIMIT %(piece)s))
"""

# Models without predictions.
TIDY = "CALL prediction_model_tidy(NULL)"


class Plain:
    """Rollup tables."""

    # While retention waits for a writer that takes long, all other writers wait behind it: so it waits in short turns.
    lock_timeout = "SET LOCAL lock_timeout = {}"
    locked_out = "Retention waits for a session that writes to prediction_log or vacuums it, and does not end."

    def __init__(self, database: Database) -> None:
        self._database = database

    def refresh(self, piece: timedelta) -> Iterator[Progress]:
        """Do nothing, because triggers refresh the rollups."""
        yield Progress(1, 1, 0)

    def apply(self, life_cycle: LifeCycle) -> None:
        """Do nothing, because the database has no jobs."""

    def retain(self, life_cycle: LifeCycle) -> None:
        """Delete rows and buckets behind the edges, in pieces.

        Raises StorageUnavailable, after the rest is done, if the edge of the log could not be moved.
        """
        locked_out = None
        with self._database.maintenance() as connection:
            finer = "'infinity'::timestamptz"
            for level, keep in life_cycle.keep.items():
                try:
                    self._move_edge(connection, level, finer, keep)
                except StorageUnavailable as error:
                    locked_out = error
                finer = f"{level}_from"
                if level == "raw":
                    _delete(connection, DROP_ROWS)
                    continue
                for family in ("stats", "latency"):
                    _delete(connection, DROP_BUCKETS.format(relation=f"prediction_{family}_{level}", level=level))
            connection.exec_driver_sql(RETAIN_DROPPED)
            connection.exec_driver_sql(RETAIN_SUMMARIES)
            connection.exec_driver_sql(TIDY)
        if locked_out:
            raise locked_out

    def overview(self) -> Overview:
        """Return the sizes and rows of the tables."""
        ((watermark,),) = self._database.read("SELECT watermark FROM prediction_stats_state")
        return Overview("plain", watermark, 0, ordinary(self._database, LOGGED + REPORTED), [])

    def _move_edge(self, connection: Connection, level: str, finer: str, keep: timedelta) -> None:
        """Move the edge of a level to `keep` ago, but not past the edge of the finer one; no writer is under way then.

        Raises StorageUnavailable if a writer does not end for a minute.
        """
        long_turn_ms = connection.exec_driver_sql(LONG_TURN_MS).scalar()
        for turn in range(1, MAX_TURNS + 1):
            turn_ms = SHORT_TURN_MS if turn % LONG_TURN_EVERY else long_turn_ms
            connection.exec_driver_sql("BEGIN")
            try:
                if level == "raw":
                    connection.exec_driver_sql(self.lock_timeout.format(turn_ms))
                    connection.exec_driver_sql(LOCK_LOG)
                connection.exec_driver_sql(MOVE_EDGE.format(level=level, finer=finer), {"keep": keep})
                connection.exec_driver_sql("COMMIT")
                return
            except DBAPIError as error:
                if not self._is_locked_out(error):
                    raise
            connection.exec_driver_sql("ROLLBACK")
            time.sleep(TRY_AGAIN_AFTER_S)
        raise StorageUnavailable(self.locked_out)

    def _is_locked_out(self, error: DBAPIError) -> bool:
        return getattr(error.orig, "pgcode", None) == LOCK_NOT_AVAILABLE


def _delete(connection: Connection, statement: str) -> None:
    gone = PIECE
    while gone == PIECE:
        connection.exec_driver_sql("BEGIN")
        connection.exec_driver_sql("SET LOCAL predlog.retention = 'on'")
        gone = connection.exec_driver_sql(statement, {"piece": PIECE}).rowcount
        connection.exec_driver_sql("COMMIT")
