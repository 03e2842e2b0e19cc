"""What clients dropped, in PostgreSQL; triggers of the migrations keep the rollups by minute, hour and day."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime

from sqlalchemy import Connection

from app.application.dropped import Counted, Removed
from app.domain.dropped import DroppedReport
from app.infrastructure.postgres.database import Database

# In the order of their keys, so that two statements with common reports wait for each other without a deadlock.
INSERT = """
INSERT INTO prediction_dropped (id, timestamp, model_name, reason, count)
SELECT id, timestamp, model_name, reason, count
FROM   json_to_recordset(%(reports)s::json)
       AS report (id uuid, timestamp timestamptz, model_name text, reason text, count bigint)
ORDER  BY id, model_name
ON CONFLICT (id, model_name) DO NOTHING"""

ADD = INSERT + " RETURNING id::text, model_name, count"
# A trigger has reduced the counts if a minute has as many as it can have.
LEFT_OF = """
SELECT coalesce(sum(count), 0)
FROM   prediction_dropped
WHERE  (id, model_name) IN (SELECT * FROM unnest(%(ids)s::uuid[], %(models)s::text[]))
"""

REMOVE = """
SELECT reports, calls FROM prediction_dropped_remove(%(models)s::text[], %(start)s::timestamptz, %(end)s::timestamptz)
"""

# The procedure commits its pieces itself. On TimescaleDB a job calls it, too.
RETAIN = "CALL prediction_dropped_retain(0, '{}')"


class PostgresDroppedStore:
    """The table prediction_dropped and its rollups."""

    def __init__(
        self, database: Database, connection: Callable[[], AbstractContextManager[Connection]] | None = None
    ) -> None:
        """`connection` lends the connection that removes: by default one with the timeouts of the service."""
        self._database = database
        self._connection = connection or database.connection

    def add(self, reports: Sequence[DroppedReport]) -> Counted:
        """Store reports. Raises DroppedBehindRetention."""
        added = self._database.rows(ADD, {"reports": reports_json(reports)})
        if not added:
            return Counted(0, 0)
        ids, models, counts = zip(*added)
        ((left,),) = self._database.read(LEFT_OF, {"ids": list(ids), "models": list(models)})
        return Counted(len(added), sum(counts) - int(left))

    def remove(self, model_names: Sequence[str], start: datetime | None, end: datetime | None) -> Removed:
        """Remove reports, from the rollups as well; new reports wait meanwhile."""
        values = {"models": list(model_names) or None, "start": start, "end": end}
        with self._connection() as connection:
            reports, dropped = connection.exec_driver_sql(REMOVE, values).one()
        return Removed(reports, int(dropped))


def reports_json(reports: Sequence[DroppedReport]) -> str:
    """Return reports as JSON for INSERT."""
    return json.dumps([
        {
            "id": str(report.id),
            "timestamp": report.timestamp.isoformat(),
            "model_name": report.model_name,
            "reason": report.reason,
            "count": report.count,
        }
        for report in reports
    ])  # fmt: skip
