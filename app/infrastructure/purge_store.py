"""Remove many predictions from PostgreSQL, piece by piece, each in a transaction of its own."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timezone
from typing import Any

from sqlalchemy import Connection

from app.application.purge import PurgeFilters
from app.domain.errors import StorageUnavailable
from app.domain.instants import DAY, TimeRange, floor
from app.infrastructure import citus
from app.infrastructure.postgres.database import Database

# So few that writers wait only a moment for a delete, which blocks them on the plain engine.
PIECE = 5_000

STATE = "SELECT engine, raw_from FROM prediction_stats_state"
CONDITIONS = {
    "model_name": "model_name = %(model_name)s",
    "model_version": "model_version = %(model_version)s",
    "request_id": "request_id = %(request_id)s::uuid",
}
WITHIN = "timestamp >= %(start)s AND timestamp < %(end)s"
COUNT = "SELECT count(*) FROM prediction_log WHERE {conditions}"
COUNT_SUMMARIZED = """
SELECT coalesce(sum(total_requests), 0)::bigint FROM {relation} WHERE {conditions}
"""
# The minutes that begin in the range and are not behind the retention edge.
MINUTES_WITHIN = """
bucket >= greatest(%(start)s, (SELECT raw_from FROM prediction_stats_state)) AND bucket < %(end)s"""
FIRST_SUMMARIZED = "SELECT model_name, bucket FROM {relation} WHERE {conditions} ORDER BY bucket LIMIT 1"
REMOVE_SUMMARIES = """
SELECT prediction_summary_{how}(%(model_name)s::text, %(model_version)s::text, %(start)s::timestamptz,
                                %(end)s::timestamptz)
"""

# By id, too, because many predictions may have the same timestamp.
LAST_OF_PIECE = """
SELECT timestamp, id
FROM   prediction_log
WHERE  {conditions}
ORDER  BY timestamp, id
OFFSET %(piece)s - 1 LIMIT 1
"""
UP_TO_LAST = "timestamp <= %(last)s AND (timestamp, id) <= (%(last)s, %(last_id)s)"
DELETE = "DELETE FROM prediction_log WHERE {conditions}"

# On TimescaleDB a delete must write invalidations. This statement writes one for each hour, instead of the trigger's
# one for each minute; a setting tells the trigger that the whole piece is invalidated.
DELETE_AND_INVALIDATE = """
WITH gone AS (
    DELETE FROM prediction_log WHERE {conditions} RETURNING timestamp
), invalidated AS (
    INSERT INTO prediction_invalidation (invalid_from, invalid_to)
    SELECT date_trunc('minute', min(timestamp), 'UTC'),
           date_trunc('minute', max(timestamp), 'UTC') + INTERVAL '1 minute'
    FROM   gone
    GROUP  BY date_trunc('hour', timestamp, 'UTC')
)
SELECT count(*) FROM gone
"""
NOTED = "SELECT set_config('predlog.invalidated_range', tstzrange(%(start)s, %(end)s)::text, true)"
# A piece may have more rows of the columnstore in its batches than TimescaleDB unpacks in one transaction by default.
UNPACK_ALL = "SET LOCAL timescaledb.max_tuples_decompressed_per_dml_transaction = 0"
# Rows behind the edge do not change the aggregates any more: they are deleted as retention would delete them.
AS_RETENTION = "SET LOCAL predlog.retention = 'on'"

HALVES = """
DELETE FROM prediction_half
WHERE  {conditions} AND coalesce(requested_at, responded_at) >= %(start)s
  AND  coalesce(requested_at, responded_at) < %(end)s
"""

FIRST_BUCKET = "SELECT min(bucket) FROM prediction_stats_day WHERE {conditions} AND bucket < %(before)s"
UNUSED = "SELECT DISTINCT model_name FROM prediction_model_unused(%(among)s::text[])"
REMOVE_UNUSED = "SELECT prediction_model_remove_unused(%(names)s::text[])"
# Writers wait while this runs.
NAMES_AT_ONCE = 500

FORGET = "SELECT prediction_stats_forget(%(model_name)s, %(model_version)s, %(start)s, %(end)s)"


class PostgresPurgeStore:
    """The log and its aggregates, on each storage engine."""

    def __init__(self, database: Database, piece: int = PIECE) -> None:
        self._database = database
        self._piece = piece

    def raw_from(self) -> datetime | None:
        """Return the retention edge: there are no single predictions before it."""
        ((_, edge),) = self._database.read(STATE)
        return _utc(edge)

    def count(self, filters: PurgeFilters, within: TimeRange) -> int:
        """Count the predictions that would be removed, summarised ones included, however long it takes."""
        conditions, values = _conditions(filters, within)
        statements = [COUNT.format(conditions=conditions)]
        if not filters.request_id:
            relation, summarized = _summarized(filters)
            statements.append(COUNT_SUMMARIZED.format(relation=relation, conditions=summarized))
        with self._database.maintenance() as connection:
            return sum(int(connection.exec_driver_sql(count, values).scalar_one()) for count in statements)

    def remove_predictions(self, filters: PurgeFilters, within: TimeRange) -> tuple[int, datetime | None]:
        """Remove the oldest of them.

        Return how many, and the time at which the next ones begin (None after the last).
        """
        with self._database.write_transaction() as connection:
            engine, edge = connection.exec_driver_sql(STATE).one()
            is_behind = edge is not None and within.start < edge
            part = TimeRange(within.start, min(edge, within.end)) if is_behind else within
            conditions, values = _conditions(filters, part)
            last = connection.exec_driver_sql(
                LAST_OF_PIECE.format(conditions=conditions), values | {"piece": self._piece}
            ).one_or_none()
            if last:
                conditions += f" AND {UP_TO_LAST}"
                values |= {"last": last[0], "last_id": last[1]}
            deleted = _delete(connection, engine, conditions, values, is_behind=is_behind)
        if last:
            return deleted, _utc(last[0])
        return deleted, part.end if part.end < within.end else None

    def remove_halves(self, filters: PurgeFilters, within: TimeRange) -> None:
        """Remove the halves of predictions, also those that are kept to recognise an event that comes again."""
        conditions, values = _conditions(filters)
        self._database.count(HALVES.format(conditions=conditions or "true"), values | vars(within))

    def remove_summaries(self, filters: PurgeFilters, within: TimeRange) -> int | None:
        """Remove what was summarised of a model on a single day; new summaries wait meanwhile.

        Return how many predictions that were; None if nothing is left.
        """
        whole = filters.is_whole_model
        remove = REMOVE_SUMMARIES.format(how="forget" if whole else "remove")
        piece: dict[str, Any] = {"model_name": filters.model_name, "model_version": filters.model_version}
        relation, conditions = _summarized(filters)
        first = FIRST_SUMMARIZED.format(relation=relation, conditions=conditions)
        with self._database.write_transaction() as connection:
            found = connection.exec_driver_sql(first, piece | vars(within)).one_or_none()
            if found is None:
                if whole:  # single summaries may be left of days behind the last edge
                    connection.exec_driver_sql(remove, piece | {"start": None, "end": None})
                return None
            piece["model_name"], start = found[0], found[1].astimezone(timezone.utc)
            end = floor(start, DAY) + DAY
            piece |= {"start": start, "end": end if whole else min(end, within.end)}
            return int(connection.exec_driver_sql(remove, piece).scalar_one())

    def first_bucket(self, filters: PurgeFilters, before: datetime) -> datetime | None:
        """Return the first day that the aggregates have of a model before the retention edge."""
        conditions, values = _conditions(filters)
        ((first,),) = self._database.read(FIRST_BUCKET.format(conditions=conditions), values | {"before": before})
        return _utc(first)

    def remove_buckets(self, filters: PurgeFilters, within: TimeRange) -> int:
        """Remove a model's buckets from before the retention edge, on all levels at once; return how many."""
        values = {"model_name": filters.model_name, "model_version": filters.model_version, **vars(within)}
        with self._database.write_transaction() as connection:
            if self._database.storage_engine == "timescale":
                connection.exec_driver_sql(UNPACK_ALL)
            return int(connection.exec_driver_sql(FORGET, values).scalar_one())

    def tidy(self, model_name: str | None) -> None:
        """Remove models without predictions from the list of models; if that fails now, the daily run does it."""
        with suppress(StorageUnavailable):
            names = [name for (name,) in self._database.read(UNUSED, {"among": model_name and [model_name]})]
            for start in range(0, len(names), NAMES_AT_ONCE):
                self._database.rows(REMOVE_UNUSED, {"names": names[start : start + NAMES_AT_ONCE]})


def _delete(connection: Connection, engine: str, conditions: str, values: dict[str, Any], *, is_behind: bool) -> int:
    if engine != "timescale":
        if is_behind:
            if engine == citus.NAME:
                connection.exec_driver_sql(citus.ON_NODES_TOO)
            connection.exec_driver_sql(AS_RETENTION)
        return connection.exec_driver_sql(DELETE.format(conditions=conditions), values).rowcount
    connection.exec_driver_sql(UNPACK_ALL)
    connection.exec_driver_sql(NOTED, values)
    return int(connection.exec_driver_sql(DELETE_AND_INVALIDATE.format(conditions=conditions), values).scalar_one())


def _summarized(filters: PurgeFilters) -> tuple[str, str]:
    """Return the rollup of summaries that has all that a purge would remove, and the conditions for it."""
    conditions, _ = _conditions(filters)
    if filters.is_whole_model:
        return "prediction_summary_day", conditions
    return "prediction_summary_minute", " AND ".join(filter(None, [conditions, MINUTES_WITHIN]))


def _conditions(filters: PurgeFilters, within: TimeRange | None = None) -> tuple[str, dict[str, Any]]:
    values: dict[str, Any] = {name: value for name in CONDITIONS if (value := getattr(filters, name)) is not None}
    conditions = [CONDITIONS[name] for name in values]
    if "request_id" in values:
        values["request_id"] = str(values["request_id"])
    if within is not None:
        conditions.append(WITHIN)
        values |= {"start": within.start, "end": within.end}
    return " AND ".join(conditions), values


def _utc(instant: datetime | None) -> datetime | None:
    return instant.astimezone(timezone.utc) if instant else None
