"""Requests and responses that wait for each other, in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from uuid import UUID

from app.application.halves import MILLISECOND, Halves, Joined, Side, duration_ms
from app.application.predictions import PredictionColumns
from app.infrastructure import citus
from app.infrastructure.postgres.array_literals import array, text_array
from app.infrastructure.postgres.database import Database, Row

SENT = """unnest(%(request_id)s::uuid[], %(model_name)s::text[], %(model_version)s::text[],
              %(requested_at)s::timestamptz[], %(responded_at)s::timestamptz[], %(metadata)s::json[])
       AS sent (request_id, model_name, model_version, requested_at, responded_at, metadata)"""
# If both halves of a prediction come at the same moment, the lock of the row makes the second one wait and find the
# first. Rows are in the order of their keys, so that two statements with common predictions do not deadlock. A row has
# one half until the prediction is logged: if that fails, the prediction still waits, and counts as dropped in the end.
# A half that comes again waits anew, so that no prediction expires while it is being logged.
JOIN = f"""
WITH sent AS (
    SELECT * FROM {SENT}
), kept AS (
    INSERT INTO prediction_half AS half (request_id, model_name, model_version, requested_at, responded_at, metadata)
    SELECT request_id, model_name, model_version, requested_at, CASE WHEN requested_at IS NULL THEN responded_at END,
           metadata
    FROM   sent
    ORDER  BY request_id
    ON CONFLICT (request_id) DO UPDATE
    SET    received_at = CASE WHEN half.received_at < now() - INTERVAL '1 minute' THEN now() ELSE half.received_at END
    RETURNING *
)
SELECT request_id::text, kept.model_name, kept.model_version, coalesce(kept.requested_at, sent.requested_at),
       coalesce(kept.responded_at, sent.responded_at), kept.metadata::text
FROM   kept JOIN sent USING (request_id)
"""
LOGGED = """
UPDATE prediction_half half
SET    requested_at = complete.requested_at, responded_at = complete.responded_at
FROM   unnest(%(request_id)s::uuid[], %(requested_at)s::timestamptz[], %(responded_at)s::timestamptz[])
       AS complete (request_id, requested_at, responded_at)
WHERE  half.request_id = complete.request_id AND (half.requested_at IS NULL OR half.responded_at IS NULL)
"""

# The id of the report is the request id, so the prediction counts once. An event that comes again after its prediction
# has expired finds no half, so this looks for the prediction in the log: row by row, because a join might read the
# whole log. Predictions that are older than the aggregates are not counted.
EXPIRE = """
WITH expired AS (
    DELETE FROM prediction_half
    WHERE  request_id IN (SELECT request_id FROM prediction_half WHERE received_at < now() - %(wait)s
                          ORDER BY received_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
    RETURNING request_id, model_name, requested_at, responded_at,
              date_trunc('minute', coalesce(requested_at, responded_at), 'UTC') AS minute
)
INSERT INTO prediction_dropped (id, timestamp, model_name, reason, count)
SELECT request_id, minute, model_name, 'expired', 1
FROM   expired
WHERE  (requested_at IS NULL OR responded_at IS NULL)
  AND  minute >= (SELECT coalesce(day_from, '-infinity') FROM prediction_stats_state) AND (
    SELECT true FROM prediction_log log
    WHERE  log.request_id = expired.request_id AND log.timestamp >= now() - 3 * %(wait)s::interval
    LIMIT  1
) IS NULL
ORDER  BY request_id, model_name
ON CONFLICT (id, model_name) DO NOTHING
"""


class PostgresHalfStore:
    """The table prediction_half."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def join(self, halves: Halves) -> Joined:
        """Keep each half once, and return the predictions that are complete."""
        if not halves.predictions:
            return Joined(halves.predictions, [], 0)
        # A batch may have both halves of a prediction, or one of them twice, but a statement may touch a row only once.
        rows: dict[UUID, dict[Side, int]] = {}
        for row, (request_id, side) in enumerate(zip(halves.predictions.request_id, halves.sides, strict=True)):
            assert request_id is not None
            rows.setdefault(request_id, {}).setdefault(side, row)
        predictions = halves.predictions.at([min(sides.values()) for sides in rows.values()])
        values = {
            "request_id": array(predictions.request_id),
            "model_name": text_array(predictions.model_name),
            "model_version": text_array(predictions.model_version),
            "requested_at": array(_times(halves, rows, Side.REQUEST)),
            "responded_at": array(_times(halves, rows, Side.RESPONSE)),
            "metadata": array(predictions.metadata),
        }
        complete = [row for row in self._database.rows(JOIN, values) if row[3] and row[4]]
        places = [max(rows[UUID(row[0])].values()) for row in complete]
        return Joined(_predictions(complete), places, len(rows) - len(complete))

    def logged(self, joined: Joined) -> None:
        """Keep that these predictions have both halves, so that they do not count as dropped when they expire."""
        if joined.predictions:
            predictions = joined.predictions
            responded = [
                at + duration * MILLISECOND for at, duration in zip(predictions.timestamp, predictions.duration_ms)
            ]
            self._database.count(
                LOGGED,
                {
                    "request_id": array(predictions.request_id),
                    "requested_at": array(predictions.timestamp),
                    "responded_at": array(responded),
                },
            )

    def expire(self, wait: timedelta, limit: int) -> None:
        """Remove up to `limit` predictions that began to wait longer ago; count the incomplete ones as dropped."""
        statement = citus.EXPIRE_HALVES if citus.is_distributed(self._database) else EXPIRE
        self._database.count(statement, {"wait": wait, "limit": limit})


def _times(halves: Halves, rows: dict[UUID, dict[Side, int]], side: Side) -> list[datetime | None]:
    return [halves.predictions.timestamp[sides[side]] if side in sides else None for sides in rows.values()]


def _predictions(rows: Sequence[Row]) -> PredictionColumns:
    return PredictionColumns(
        timestamp=[row[3].astimezone(timezone.utc) for row in rows],
        model_name=[row[1] for row in rows],
        model_version=[row[2] for row in rows],
        duration_ms=[duration_ms(row[3], row[4]) for row in rows],
        was_successful=[True] * len(rows),
        error=[None] * len(rows),
        metadata=[row[5] for row in rows],
        request_id=[UUID(row[0]) for row in rows],
    )
