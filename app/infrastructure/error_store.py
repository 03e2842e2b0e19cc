"""Failed predictions, grouped by the patterns of their errors, from the log itself."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timezone
from typing import Any

from app.application.error_groups import Cursor, ErrorGroup
from app.domain.errors import StorageTimeout
from app.domain.instants import TimeRange
from app.domain.statistics import Selection
from app.infrastructure.postgres.database import Database

# UUIDs, hexadecimal numbers after 0x, and decimal ones with their separators (1.5, 10:32, 2025-06-09) each become #.
CHANGING = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|0x[0-9a-f]+|[0-9]+([.,:-][0-9]+)*"
PATTERN_LENGTH = 500

# All failures before the end are read, because only the log knows when an error was first seen.
GROUPS = """
SELECT model_name, md5(pattern) AS fingerprint, pattern,
       count(*) FILTER (WHERE is_within) AS predictions,
       min(timestamp) AS first_seen,
       (array_agg(model_version ORDER BY timestamp, id))[1] AS first_version,
       max(timestamp) FILTER (WHERE is_within) AS last_seen,
       (array_agg(id ORDER BY timestamp DESC, id DESC) FILTER (WHERE is_within))[1] AS last_id,
       array_agg(DISTINCT model_version) FILTER (WHERE is_within) AS versions
FROM  (SELECT id, timestamp, model_name, model_version, timestamp >= %(start)s{version} AS is_within,
              left(regexp_replace(coalesce(error, ''), %(changing)s, '#', 'gi'), %(length)s) AS pattern
       FROM   prediction_log
       WHERE  NOT was_successful AND timestamp < %(end)s{model}) AS failed
GROUP  BY model_name, pattern
HAVING count(*) FILTER (WHERE is_within) > 0{after}
ORDER  BY predictions DESC, model_name COLLATE "C", fingerprint
LIMIT  %(limit)s"""
VERSION = " AND model_version = %(model_version)s"
MODEL = " AND model_name IN %(model_names)s"
# Descending counts, ascending names.
AFTER = """
   AND (- count(*) FILTER (WHERE is_within), model_name COLLATE "C", md5(pattern))
       > (- %(after_count)s::bigint, %(after_name)s, %(after_fingerprint)s)"""
TOO_LONG = (
    "There are too many failed predictions for LIST_TIMEOUT_MS: give `model_name`, or an earlier end of the range."
)


class PostgresErrorStore:
    """The table prediction_log, whose partial index has the failed predictions alone."""

    def __init__(self, database: Database, timeout_ms: int | None = None) -> None:
        """`timeout_ms` is the timeout of each page in milliseconds; None means the timeout of any statement."""
        self._database = database
        self._timeout_ms = timeout_ms

    def page(
        self, selection: Selection, time_range: TimeRange, after: Cursor | None, limit: int
    ) -> Sequence[ErrorGroup]:
        """Return up to `limit` groups after a cursor, the most frequent in the range first. Raises StorageTimeout."""
        statement = GROUPS.format(
            version=VERSION if selection.model_version is not None else "",
            model=MODEL if selection.model_names else "",
            after=AFTER if after else "",
        )
        values: dict[str, Any] = {
            "start": time_range.start,
            "end": time_range.end,
            "model_names": selection.model_names,
            "model_version": selection.model_version,
            "changing": CHANGING,
            "length": PATTERN_LENGTH,
            "limit": limit,
        }
        if after:
            values |= {f"after_{name}": value for name, value in zip(("count", "name", "fingerprint"), after)}
        try:
            rows = self._database.read(statement, values, self._timeout_ms)
        except StorageTimeout as error:
            raise StorageTimeout(TOO_LONG) from error
        return [_group(*row) for row in rows]


def _group(model_name: str, fingerprint: str, pattern: str, count: int, *rest: Any) -> ErrorGroup:
    first_seen, first_version, last_seen, last_id, versions = rest
    return ErrorGroup(
        model_name=model_name,
        fingerprint=fingerprint,
        pattern=pattern,
        count=count,
        first_seen=first_seen.astimezone(timezone.utc),
        first_version=first_version,
        last_seen=last_seen.astimezone(timezone.utc),
        last_id=last_id,
        versions=versions,
    )
