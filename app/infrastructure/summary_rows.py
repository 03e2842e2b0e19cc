"""Summaries in PostgreSQL: how they are stored, and the branches of a question about them.

Triggers of the migrations keep rollups by minute, hour and day, which are up to date at any moment.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence

from app.application.statistics import Question
from app.domain.cover import Segment, cover_minutes
from app.domain.instants import TimeRange
from app.domain.summaries import Summary

# In the order of their keys, so that two statements with common summaries wait for each other without a deadlock.
INSERT = """
INSERT INTO prediction_summary (id, timestamp, model_name, model_version, total_requests, successful_requests,
                                duration_ms_sum, duration_ms_min, duration_ms_max, bins, bin_calls)
SELECT id, timestamp, model_name, model_version, total_requests, successful_requests,
       duration_ms_sum, duration_ms_min, duration_ms_max, bins, bin_calls
FROM   json_to_recordset(%(summaries)s::json)
       AS summary (id uuid, timestamp timestamptz, model_name text, model_version text, total_requests bigint,
                   successful_requests bigint, duration_ms_sum double precision, duration_ms_min double precision,
                   duration_ms_max double precision, bins integer[], bin_calls bigint[])
ORDER  BY id, model_name
ON CONFLICT (id, model_name) DO NOTHING
RETURNING total_requests"""

# Whether there are any: if not, no statement reads their tables.
ANY = "EXISTS (SELECT FROM prediction_summary_day{where})"
# On Citus a statement about one model looks on the node of the model alone.
OF_MODELS = " WHERE model_name IN %(model_names)s"

# The procedure commits its pieces itself. On TimescaleDB a job calls it, too.
RETAIN = "CALL prediction_summary_retain(0, '{}')"

# The part is NULL, because summaries belong to no segment of the log: a minute counts where it begins.
FROM_STATS = """
SELECT NULL::integer AS part, {keys}, false AS raw, NULL::integer AS bin, sum(total_requests)::bigint AS calls,
       sum(successful_requests)::bigint AS successful,
       sum(duration_ns_sum) AS sum, min(duration_ms_min) AS min, max(duration_ms_max) AS max, NULL::numeric AS dropped
FROM   prediction_summary_{level}
WHERE  bucket >= '{start}' AND bucket < '{end}'{conditions}
{group}"""

FROM_LATENCY = """
SELECT NULL::integer AS part, {keys}, false AS raw, bin, sum(calls)::bigint AS calls, NULL::bigint AS successful,
       NULL::numeric AS sum, NULL::double precision AS min, NULL::double precision AS max,
       NULL::numeric AS dropped
FROM   prediction_summary_latency_{level}
WHERE  bucket >= '{start}' AND bucket < '{end}'{conditions}
{group}"""


def as_json(summaries: Iterable[Summary]) -> str:
    """Return summaries as JSON for INSERT."""
    return json.dumps([_row(summary) for summary in summaries], ensure_ascii=False, separators=(",", ":"))


def segments(question: Question, time_range: TimeRange) -> list[Segment]:
    """Return the buckets of the rollups for the minutes that begin in a range."""
    return cover_minutes(time_range, question.levels)


def branches(question: Question, time_range: TimeRange, keys: str, group: list[str], conditions: str) -> Iterator[str]:
    """Return the SELECTs that count the summaries of a range; `keys` are the key columns, `group` those that vary."""
    for segment in segments(question, time_range):
        common = {
            "keys": keys,
            "level": segment.level,
            "start": segment.range.start,
            "end": segment.range.end,
            "conditions": conditions,
        }
        yield FROM_STATS.format(group=group_by(group), **common)
        if question.latency:
            yield FROM_LATENCY.format(group=group_by([*group, "bin"]), **common)


def group_by(columns: Sequence[str]) -> str:
    """Return the clause for these columns, which is empty if there are none."""
    return f"GROUP  BY {', '.join(columns)}" if columns else ""


def _row(summary: Summary) -> dict[str, object]:
    bins, counts = zip(*summary.bins)
    return {
        "id": str(summary.id),
        "timestamp": summary.timestamp.isoformat(),
        "model_name": summary.model_name,
        "model_version": summary.model_version,
        "total_requests": summary.count,
        "successful_requests": summary.successful,
        "duration_ms_sum": summary.duration_ms_sum,
        "duration_ms_min": summary.duration_ms_min,
        "duration_ms_max": summary.duration_ms_max,
        "bins": bins,
        "bin_calls": counts,
    }
