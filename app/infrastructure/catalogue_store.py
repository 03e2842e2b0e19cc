"""The times of predictions of each model and version, from the aggregates and, for single instants, from the log."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, TypeVar

from app.application.catalogue_places import CatalogueReader, Place
from app.application.statistics import GroupKey
from app.domain.activity import Activity
from app.domain.cover import RAW, Level, Segment
from app.domain.statistics import Selection
from app.infrastructure import citus
from app.infrastructure.postgres.database import Database, Row, retried
from app.infrastructure.statistics_store import PostgresStatisticsStore

T = TypeVar("T")

# In the order of their bytes, which is also the order of their characters.
NAMES = """
SELECT model_name, model_version
FROM   prediction_model
{where}
ORDER  BY model_name, model_version
LIMIT  {limit:d}"""
MODEL_NAMES = """
SELECT DISTINCT model_name
FROM   prediction_model
{where}
ORDER  BY model_name
LIMIT  {limit:d}"""
# C folds ASCII in the same way everywhere. The database's own collation folds other letters, if it is not C itself; but
# that of Turkish does not fold I to i, and one of ICU folds a Σ at the end of a word otherwise than within it.
SEARCH = """strpos(lower(model_name COLLATE "{collation}"), lower(%(search)s COLLATE "{collation}")) > 0"""
CONDITIONS = {
    "after_name": "model_name > %(after_name)s",
    "after": "(model_name, model_version) > (%(after_name)s, %(after_version)s)",
    "model_names": "model_name IN %(model_names)s",
    "search": f"({SEARCH.format(collation='C')} OR {SEARCH.format(collation='default')})",
}

FROM_ROWS = """
SELECT model_name, model_version, extract(epoch FROM date_trunc('{level}', timestamp, 'UTC'))::bigint AS bucket,
       count(*) AS predictions
FROM   prediction_log
WHERE  timestamp >= '{start}' AND timestamp < '{end}'
  AND  model_name IN %(model_names)s AND model_version IN %(model_versions)s
GROUP  BY 1, 2, 3"""

FROM_BUCKETS = """
SELECT model_name, model_version, extract(epoch FROM {bucket})::bigint AS bucket, total_requests AS predictions
FROM   prediction_stats_{source}
WHERE  bucket >= '{start}' AND bucket < '{end}'
  AND  model_name IN %(model_names)s AND model_version IN %(model_versions)s"""

# The rollups of summaries are up to date at any moment, so one level has all.
FROM_SUMMARIES = """
SELECT model_name, model_version, extract(epoch FROM bucket)::bigint AS bucket, total_requests AS predictions
FROM   prediction_summary_{level}
WHERE  bucket >= '{start}' AND bucket < '{end}'
  AND  model_name IN %(model_names)s AND model_version IN %(model_versions)s"""

ACTIVITY = """
SELECT model_name, model_version,
       array_to_string(array_agg(bucket), ',') AS buckets, array_to_string(array_agg(predictions), ',') AS predictions
FROM  ({branches}) AS segments
GROUP  BY model_name, model_version"""

# Literal bounds make PostgreSQL look into the index of a single chunk. The count keeps the planner from scanning the
# buckets of all models until it finds the first one of this model.
FIND_ROW = """
(SELECT {number} AS place, timestamp AS at
 FROM   prediction_log
 WHERE  model_name = %(model_name_{number})s AND model_version = %(model_version_{number})s
   AND  timestamp >= '{start}' AND timestamp < '{end}'{conditions}
 ORDER  BY timestamp {order} LIMIT 1)"""
# Of a minute with summaries the first and the last instant are not known: it has no row to be found.
NO_SUMMARY = """
   AND  NOT EXISTS (
            SELECT FROM prediction_summary_minute
            WHERE  model_name = %(model_name_{number})s AND model_version = %(model_version_{number})s
              AND  bucket >= '{start}' AND bucket < '{end}')"""

FIND_BUCKET = """
SELECT {number} AS place, {extreme}(bucket) AS at
FROM   prediction_{family}_{level}
WHERE  model_name = %(model_name_{number})s AND model_version = %(model_version_{number})s
  AND  bucket >= '{start}' AND bucket < '{end}'
HAVING count(*) > 0"""


class SnapshotReader(PostgresStatisticsStore):
    """Reads on one connection, in one snapshot."""

    def names(
        self, model_names: Sequence[str], search: str | None, after: tuple[str, str] | None, limit: int
    ) -> Sequence[GroupKey]:
        """Return up to `limit` models and versions that were ever logged, in order, after a name and version."""
        after_name, after_version = after or (None, None)
        values = {"model_names": tuple(model_names), "search": search, "after_name": after_name}
        wanted = {"after": after is not None, "model_names": bool(model_names), "search": search is not None}
        rows = self._run(NAMES.format(where=_where(wanted), limit=limit), values | {"after_version": after_version})
        return [GroupKey(0, model_name, model_version) for model_name, model_version in rows]

    def model_names(
        self, model_names: Sequence[str], search: str | None, after: str | None, limit: int
    ) -> Sequence[str]:
        """Return up to `limit` names of models that were ever logged, in order, after a name."""
        values = {"model_names": tuple(model_names), "search": search, "after_name": after}
        wanted = {"after_name": after is not None, "model_names": bool(model_names), "search": search is not None}
        rows = self._run(MODEL_NAMES.format(where=_where(wanted), limit=limit), values)
        return [model_name for (model_name,) in rows]

    def activity(self, selection: Selection, level: Level, segments: Sequence[Segment]) -> Mapping[GroupKey, Activity]:
        """Return the number of predictions in each bucket of the level, for these versions of these models."""
        branches = [*(_branch(level, segment) for segment in segments), _summaries(level, segments)]
        rows = self._run(ACTIVITY.format(branches="\nUNION ALL".join(branches)), vars(selection))
        activities = {}
        for model_name, model_version, buckets, predictions in rows:
            counts: Counter[int] = Counter()
            for bucket, count in zip(json.loads(f"[{buckets}]"), json.loads(f"[{predictions}]")):
                counts[bucket] += count
            activities[GroupKey(0, model_name, model_version)] = Activity(level, counts)
        return activities

    def look_up(self, level: Level, places: Sequence[Place]) -> Sequence[datetime | None]:
        """Return for each place its first or last row of the log, or bucket of the level; None if there is none."""
        if not places:
            return []
        values: dict[str, str | None] = {}
        for number, place in enumerate(places):
            values[f"model_name_{number}"] = place.key.model_name
            values[f"model_version_{number}"] = place.key.model_version
        if self._is_distributed():
            statement = _look_up_by_shard(level, places)
        else:
            branches = [branch for number, place in enumerate(places) for branch in _look_up(number, level, place)]
            statement = "\nUNION ALL".join(branches)
        found: dict[int, datetime] = {}
        for number, at in self._run(statement, values):
            if at is not None:
                nearer = max if places[number].is_last else min
                found[number] = nearer(found.get(number, at), at).astimezone(timezone.utc)
        return [found.get(number) for number in range(len(places))]


class PostgresCatalogueStore:
    """The log and its aggregates."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def names(
        self, model_names: Sequence[str], search: str | None, after: tuple[str, str] | None, limit: int
    ) -> Sequence[GroupKey]:
        """The same as SnapshotReader's, in a snapshot of its own."""
        return SnapshotReader(self._database.read).names(model_names, search, after, limit)

    def model_names(
        self, model_names: Sequence[str], search: str | None, after: str | None, limit: int
    ) -> Sequence[str]:
        """The same as SnapshotReader's, in a snapshot of its own."""
        return SnapshotReader(self._database.read).model_names(model_names, search, after, limit)

    def within_snapshot(self, work: Callable[[CatalogueReader], T]) -> T:
        """Run `work` with a reader whose statements all see the same snapshot."""
        return retried(lambda: self._within_snapshot(work))

    def _within_snapshot(self, work: Callable[[CatalogueReader], T]) -> T:
        distributed = citus.is_distributed(self._database)
        with self._database.snapshot() as connection:

            def run(sql: str, values: dict[str, Any]) -> list[Row]:
                return list(connection.exec_driver_sql(sql, values).fetchall())

            return work(SnapshotReader(run, lambda: distributed))


def _where(wanted: Mapping[str, bool]) -> str:
    conditions = [CONDITIONS[name] for name, is_wanted in wanted.items() if is_wanted]
    return f"WHERE  {' AND '.join(conditions)}" if conditions else ""


def _branch(level: Level, segment: Segment) -> str:
    bounds = {"start": segment.range.start, "end": segment.range.end}
    if segment.level is RAW:
        return FROM_ROWS.format(level=level, **bounds)
    bucket = "bucket" if segment.level is level else f"date_trunc('{level}', bucket, 'UTC')"
    return FROM_BUCKETS.format(bucket=bucket, source=segment.level, **bounds)


def _summaries(level: Level, segments: Sequence[Segment]) -> str:
    start, end = min(segment.range.start for segment in segments), max(segment.range.end for segment in segments)
    return FROM_SUMMARIES.format(level=level, start=start, end=end)


def _look_up(number: int, level: Level, place: Place) -> list[str]:
    order, extreme = ("DESC", "max") if place.is_last else ("ASC", "min")
    bounds = {"number": number, "start": place.range.start, "end": place.range.end}
    if level is RAW:
        return [FIND_ROW.format(order=order, conditions=NO_SUMMARY.format(**bounds), **bounds)]
    return [
        FIND_BUCKET.format(extreme=extreme, family=family, level=level, **bounds) for family in ("stats", "summary")
    ]


def _look_up_by_shard(level: Level, places: Sequence[Place]) -> str:
    asked = ", ".join(
        citus.PLACE.format(number=number, start=place.range.start, end=place.range.end, is_last=place.is_last)
        for number, place in enumerate(places)
    )
    bounds = {
        "start": min(place.range.start for place in places),
        "end": max(place.range.end for place in places),
    }

    def extreme(name: str) -> list[str]:
        if level is RAW:
            raw = {"relation": "prediction_log", "time": "timestamp", "conditions": citus.NOT_SUMMARIZED}
            return [citus.EXTREME.format(extreme=name, **raw, **bounds)]
        relations = [f"prediction_{family}_{level}" for family in ("stats", "summary")]
        common = {"extreme": name, "time": "bucket", "conditions": ""}
        return [citus.EXTREME.format(relation=relation, **common, **bounds) for relation in relations]

    first, last = (f"{of_all}({', '.join(extreme(name))})" for of_all, name in (("least", "min"), ("greatest", "max")))
    return citus.FIND_PLACES.format(first=first, last=last, places=asked)
