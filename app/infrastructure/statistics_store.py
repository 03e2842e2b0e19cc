"""Statistics in PostgreSQL: a plan's segments become one statement."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from typing import Any

from app.application.statistics import GroupKey, Part, Question, Reading
from app.domain.cover import DAYS, HOURS, MINUTES, RAW, Materialized, Segment
from app.domain.dropped import SATURATION
from app.domain.instants import TimeRange
from app.domain.sketch import LatencySketch
from app.domain.statistics import Tally
from app.infrastructure import citus, summary_rows
from app.infrastructure.postgres.database import Row
from app.infrastructure.statistics_branches import (
    any_summarized_of,
    branches_of,
    conditions_of,
    dropped_of,
    names_of,
    names_of_dropped,
    summarized_of,
)

ANSWER = """
SELECT part, point, model_name, model_version,
       sum(calls)      FILTER (WHERE successful IS NOT NULL)::bigint AS calls,
       sum(successful)::bigint AS successful,
       sum(sum) AS sum, min(min) AS min, max(max) AS max,
       sum(calls)      FILTER (WHERE raw)::bigint AS read_raw,
       array_to_string(array_agg(bin)   FILTER (WHERE bin IS NOT NULL), ',') AS bins,
       array_to_string(array_agg(calls) FILTER (WHERE bin IS NOT NULL), ',') AS bin_calls,
       sum(dropped) AS dropped
FROM  ({branches}) AS parts
GROUP  BY part, point, model_name, model_version"""

# The state is read in the same statement, so that it is the state of the same snapshot.
STATE = """
       extract(epoch FROM watermark)::bigint, CASE engine WHEN 'timescale' THEN generation END,
       extract(epoch FROM raw_from)::bigint,  extract(epoch FROM minute_from)::bigint,
       extract(epoch FROM hour_from)::bigint, extract(epoch FROM day_from)::bigint,
       ARRAY(SELECT ARRAY[extract(epoch FROM min(invalid_from))::bigint, extract(epoch FROM max(invalid_to))::bigint]
             FROM   prediction_invalidation
             WHERE  invalid_to > '{start}' AND invalid_from < '{end}'
             GROUP  BY date_trunc('hour', invalid_from))"""

READ_STATE = "SELECT {state} FROM prediction_stats_state"
READ = """
SELECT {state}, {has_summaries}, answer.*
FROM   prediction_stats_state LEFT JOIN ({answer}) AS answer ON true"""

COUNT_GROUPS = """
SELECT count(*) FROM (SELECT 1 FROM ({branches}) AS parts GROUP BY {keys}{limit}) AS few"""
ALL_NAMES = "SELECT {keys} FROM prediction_model WHERE true{conditions}"
NAMED_LEVELS = (RAW, MINUTES, HOURS, DAYS)
STATE_COLUMNS = 7


class PostgresStatisticsStore:
    """The aggregates, and raw rows if these are not enough."""

    def __init__(
        self, run: Callable[[str, dict[str, Any]], list[Row]], is_distributed: Callable[[], bool] = lambda: False
    ) -> None:
        """`run` runs a statement on a connection; `is_distributed` tells whether the models are on several nodes."""
        self._run = run
        self._is_distributed = is_distributed
        self._has_summaries = False  # when it was read last; on Citus once there were some

    def state(self, time_range: TimeRange) -> Materialized:
        """Return the state of the aggregates for the range."""
        state = STATE.format(start=time_range.start, end=time_range.end)
        return _state(self._run(READ_STATE.format(state=state), {})[0])

    def read(self, question: Question, time_range: TimeRange, parts: Sequence[Part]) -> Reading:
        """Read the parts in one statement; literal bounds let the planner leave out chunks."""
        by_shard = self._is_distributed() and len(question.selection.model_names) != 1
        conditions, values = conditions_of(question.selection)
        branches = [
            branch for number, part in enumerate(parts) for branch in branches_of(number, part, conditions, by_shard)
        ]
        branches += dropped_of(question, time_range, by_shard)
        with_summaries = self._has_summaries
        if with_summaries:
            branches += summarized_of(question, time_range, conditions, by_shard)
        elif by_shard:
            branches.append(any_summarized_of(question))
        union = "\nUNION ALL".join(branches)
        if by_shard:
            # The state comes afterwards: an edge that has not moved then had not moved before.
            is_by_model = "model_name" in question.group_by
            rows = self._run((ANSWER if is_by_model else citus.ANSWER).format(branches=union), values)
            answers = rows if is_by_model else list(citus.joined(rows))
            state = self.state(time_range)
            has_summaries = with_summaries or any(row[0] == citus.ANY_SUMMARIES for row in rows)
        else:
            is_distributed = self._is_distributed()
            any_summaries = summary_rows.ANY.format(where=summary_rows.OF_MODELS if is_distributed else "")
            bounds = STATE.format(start=time_range.start, end=time_range.end)
            answer = ANSWER.format(branches=union)
            rows = self._run(READ.format(state=bounds, has_summaries=any_summaries, answer=answer), values)
            answers, state = [row[STATE_COLUMNS + 1 :] for row in rows], _state(rows[0])
            has_summaries = rows[0][STATE_COLUMNS] or (is_distributed and with_summaries)
        self._has_summaries = has_summaries  # other threads write the attribute, too
        if has_summaries and not with_summaries:
            return self.read(question, time_range, parts)
        tallies = [dict[GroupKey, Tally]() for _ in parts]
        beside = dict[GroupKey, Tally]()
        for row in answers:
            number, key, tally = _tally(row)
            if tally:
                (beside if number is None else tallies[number])[key] = tally
        return Reading(tallies, beside, state, is_one_snapshot=not by_shard)

    def count_groups(self, question: Question, segments: Sequence[Segment] | None, limit: int) -> int:
        """Count up to `limit` groups: with predictions in the segments, or with summaries or drops in the range.

        Without segments, the groups of all models that were ever logged are counted.
        """
        conditions, values = conditions_of(question.selection)
        keys = ", ".join(question.group_by)
        at_most = f" LIMIT {limit:d}"
        if self._is_distributed():
            if "model_name" in question.group_by:
                at_most = ""  # nodes count their own groups, but only the coordinator could stop at so many
            else:
                keys += ", model_name"  # which tells that the branches are of one node each
        names = ALL_NAMES.format(keys=keys, conditions=conditions)
        branches = [names] if segments is None else [names_of(segment, keys, conditions) for segment in segments]
        if segments is not None:
            summarized = summary_rows.segments(question, question.range)
            branches += [names_of(segment, keys, conditions, "summary") for segment in summarized]
        if question.group_by == ("model_name",):  # the only groups that drops alone can make
            collated = keys
            if not self._is_distributed():  # both sides of a UNION need the same collation
                collated = f'{keys} COLLATE "{"C" if segments is None else "default"}" AS {keys}'
            branches += names_of_dropped(question, question.range, collated)
        if not branches:
            return 0
        groups = ", ".join(question.group_by)
        statement = COUNT_GROUPS.format(branches="\nUNION ALL\n".join(branches), keys=groups, limit=at_most)
        return min(int(self._run(statement, values)[0][0]), limit)


def _tally(row: Row) -> tuple[int | None, GroupKey, Tally]:
    (
        number,
        point,
        model_name,
        model_version,
        predictions,
        successful,
        total_ns,
        low,
        high,
        read_raw,
        bins,
        bin_counts,
        dropped,
    ) = row
    tally = Tally(
        total=predictions or 0,
        successful=successful or 0,
        duration_ns_sum=int(total_ns or 0),
        duration_ms_min=low,
        duration_ms_max=high,
        read_raw=read_raw or 0,
        summarized=(predictions or 0) if number is None else 0,
        dropped=min(int(dropped or 0), SATURATION),
        sketch=LatencySketch(zip(_integers(bins), _integers(bin_counts))),
    )
    return number, GroupKey(point or 0, model_name, model_version), tally


def _integers(text: str | None) -> list[int]:
    """Read the output of array_to_string, faster than the driver reads arrays."""
    return list(json.loads(f"[{text or ''}]"))


def _state(row: Row) -> Materialized:
    up_to, generation, *kept_from, changed = row[:STATE_COLUMNS]
    return Materialized(
        up_to=_instant(up_to),
        generation=generation,
        kept_from=tuple(
            (level, _instant(seconds)) for level, seconds in zip(NAMED_LEVELS, kept_from) if seconds is not None
        ),
        invalidations=tuple(TimeRange(_instant(start), _instant(end)) for start, end in changed),
    )


def _instant(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, timezone.utc)
