"""The branches of a statement about statistics: one for each segment of a plan, all with the same columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import groupby
from operator import attrgetter
from typing import Any

from app.application.statistics import Part, Question
from app.domain.cover import MINUTES, RAW, Segment, cover_minutes
from app.domain.instants import TimeRange
from app.domain.statistics import GROUP_KEYS, Selection
from app.infrastructure import citus, summary_rows
from app.infrastructure.summary_rows import group_by

# Every branch has the same columns: the counts of rows or buckets, or the predictions in one bin of the sketch.
FROM_ROWS = """
SELECT {part} AS part, {keys}, true AS raw, {bin} AS bin, count(*) AS calls,
       count(*) FILTER (WHERE was_successful) AS successful,
       coalesce(sum(duration_ns(duration_ms)), 0) + coalesce(sum(long_duration_ns(duration_ms)), 0) AS sum,
       min(duration_ms) AS min, max(duration_ms) AS max, NULL::numeric AS dropped
FROM   prediction_log
WHERE  timestamp >= '{start}' AND timestamp < '{end}'{conditions}
{group}"""

FROM_STATS = """
SELECT {part} AS part, {keys}, false AS raw, NULL::integer AS bin, sum(total_requests)::bigint AS calls,
       sum(successful_requests)::bigint AS successful,
       sum(duration_ns_sum) AS sum, min(duration_ms_min) AS min, max(duration_ms_max) AS max, NULL::numeric AS dropped
FROM   prediction_stats_{level}
WHERE  bucket >= '{start}' AND bucket < '{end}'{conditions}
{group}"""

FROM_LATENCY = """
SELECT {part} AS part, {keys}, false AS raw, bin, {calls} AS calls,
       NULL::bigint AS successful,
       NULL::numeric AS sum, NULL::double precision AS min, NULL::double precision AS max,
       NULL::numeric AS dropped
FROM   prediction_latency_{level}
WHERE  bucket >= '{start}' AND bucket < '{end}'{conditions}
{group}"""

# Dropped predictions are known by model, not by version: they count in no group of versions, but in the total.
FROM_DROPPED = """
SELECT NULL::integer AS part, {keys}, false AS raw,
       NULL::integer AS bin, NULL::bigint AS calls, NULL::bigint AS successful,
       NULL::numeric AS sum, NULL::double precision AS min, NULL::double precision AS max, dropped
FROM   prediction_dropped_{level}
WHERE  ({ranges}){conditions}"""
NAMES_OF_DROPPED = """
SELECT {keys} FROM prediction_dropped_{level} WHERE ({ranges}){conditions}"""
RANGE = "bucket >= '{start}' AND bucket < '{end}'"

NAMES_OF_PART = """
SELECT {keys} FROM {relation} WHERE {time} >= '{start}' AND {time} < '{end}'{conditions}"""


def names_of(segment: Segment, keys: str, conditions: str, family: str = "stats") -> str:
    """Return a branch with a row for each bucket or prediction of a segment, which has its `keys` alone."""
    raw = segment.level is RAW
    return NAMES_OF_PART.format(
        keys=keys,
        relation="prediction_log" if raw else f"prediction_{family}_{segment.level}",
        time="timestamp" if raw else "bucket",
        start=segment.range.start,
        end=segment.range.end,
        conditions=conditions,
    )


def branches_of(number: int, part: Part, conditions: str, by_shard: bool) -> Iterator[str]:
    """Yield the branches of a part of a plan; with `by_shard` each model is grouped by itself, as its node has it."""
    level, range = part.segment.level, part.segment.range
    raw = level is RAW
    keys, group = _keys(part.edges, _grouped(part.group_by, by_shard), "timestamp" if raw else "bucket")
    common = {
        "part": number,
        "start": range.start,
        "end": range.end,
        "level": level,
        "conditions": conditions,
        "keys": keys,
    }
    together = by_shard and "model_name" not in part.group_by
    if raw:
        columns = [*group, "bin"] if part.latency else group
        bin = "latency_bin(duration_ms)" if part.latency else "NULL::integer"
        yield (citus.FROM_ROWS if together else FROM_ROWS).format(bin=bin, group=group_by(columns), **common)
        return
    yield (citus.FROM_STATS if together else FROM_STATS).format(group=group_by(group), **common)
    if part.latency and (part.edges or together):
        # Most bins of a point are in one row each, so adding them up in SQL would cost more than it saves.
        yield FROM_LATENCY.format(calls="calls", group="", **common)
    elif part.latency:
        yield FROM_LATENCY.format(calls="sum(calls)::bigint", group=group_by([*group, "bin"]), **common)


def dropped_of(question: Question, time_range: TimeRange, by_shard: bool) -> Iterator[str]:
    """Yield the branches of what clients dropped in the minutes that begin in the range."""
    edges = question.series.edges[1:-1] if question.series else ()
    group_by = () if "model_version" in question.group_by else question.group_by
    keys, _ = _keys(edges, _grouped(group_by, by_shard), "bucket")
    return _of_dropped(FROM_DROPPED, question, time_range, keys)


def names_of_dropped(question: Question, time_range: TimeRange, keys: str) -> Iterator[str]:
    """Yield branches with a row for each bucket of what clients dropped, which has these `keys` alone."""
    return _of_dropped(NAMES_OF_DROPPED, question, time_range, keys)


def _of_dropped(template: str, question: Question, time_range: TimeRange, keys: str) -> Iterator[str]:
    conditions, _ = conditions_of(replace(question.selection, model_version=None, model_versions=()))
    segments = cover_minutes(time_range, question.levels) or [Segment(MINUTES, time_range)]
    for level, ends in groupby(segments, attrgetter("level")):  # planning costs more than reading: a branch for each
        ranges = " OR ".join(RANGE.format(start=end.range.start, end=end.range.end) for end in ends)
        yield template.format(keys=keys, level=level, ranges=ranges, conditions=conditions)


def _grouped(group_by: Sequence[str], by_shard: bool) -> Sequence[str]:
    return [*group_by, "model_name"] if by_shard and "model_name" not in group_by else group_by


def summarized_of(question: Question, time_range: TimeRange, conditions: str, by_shard: bool) -> Iterator[str]:
    """Yield the branches of what clients summarised in the minutes that begin in the range."""
    edges = question.series.edges[1:-1] if question.series else ()
    keys, group = _keys(edges, _grouped(question.group_by, by_shard), "bucket")
    return summary_rows.branches(question, time_range, keys, group, conditions)


def any_summarized_of(question: Question) -> str:
    """Return a branch that has rows if there are any summaries; models are grouped by themselves."""
    keys, _ = _keys((), _grouped(question.group_by, by_shard=True), "bucket")
    return citus.IF_ANY_SUMMARIES.format(keys=keys)


def _keys(edges: Sequence[datetime], group_by: Sequence[str], time: str) -> tuple[str, list[str]]:
    """Return the three key columns of a branch, and those of them that differ between its rows."""
    columns, group = ["0 AS point"], []
    if edges:
        instants = ",".join(f'"{edge.isoformat()}"' for edge in edges)
        columns = [f"width_bucket({time}, '{{{instants}}}'::timestamptz[]) AS point"]
        group.append("point")
    for key in GROUP_KEYS:
        columns.append(key if key in group_by else f"NULL::text AS {key}")
        group += [key] if key in group_by else []
    return ", ".join(columns), group


def conditions_of(selection: Selection) -> tuple[str, dict[str, Any]]:
    """Return the conditions of a selection, and the values of their parameters."""
    conditions, values = "", dict[str, Any]()
    if selection.model_names:
        conditions += " AND model_name IN %(model_names)s"
        values["model_names"] = selection.model_names
    if selection.model_version is not None:
        conditions += " AND model_version = %(model_version)s"
        values["model_version"] = selection.model_version
    if selection.model_versions:
        conditions += " AND model_version IN %(model_versions)s"
        values["model_versions"] = selection.model_versions
    return conditions, values
