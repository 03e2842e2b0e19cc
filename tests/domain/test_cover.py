"""Whatever the range and the state of the aggregates: covered exactly once, and only by what may be trusted."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from itertools import pairwise

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from app.domain.cover import (
    COARSE_TO_FINE,
    DAYS,
    HOURS,
    MAX_INVALIDATIONS,
    MINUTES,
    RAW,
    Level,
    Materialized,
    Segment,
    answerable,
    cover,
    hours_pending_repair,
)
from app.domain.instants import DAY, HOUR, MINUTE, TimeRange, ceiling, floor

MONDAY = datetime(2026, 6, 1, tzinfo=timezone.utc)
HORIZON = 20 * DAY
FINE_TO_COARSE = (RAW, MINUTES, HOURS, DAYS)
# A change cuts a day into hours, an hour into minutes, on both of its sides; the ends and the watermark do so once.
SEGMENTS_FOR_A_CHANGE, SEGMENTS_FOR_THE_ENDS = 6, 10

minutes = st.integers(0, HORIZON // MINUTE).map(lambda n: MONDAY + n * MINUTE)
instants = st.one_of(
    minutes,
    st.integers(0, 20 * 24).map(lambda n: MONDAY + n * HOUR),
    st.integers(0, 20).map(lambda n: MONDAY + n * DAY),
    st.timedeltas(timedelta(), HORIZON).map(lambda delta: MONDAY + delta),
)
ranges = st.tuples(instants, instants).map(lambda ends: TimeRange(min(ends), max(ends)))
# What series allow: all levels, or those whose buckets fit into its points.
levels = st.integers(0, 3).map(lambda n: COARSE_TO_FINE[n:])


@st.composite
def states(draw: st.DrawFn, *, retention: bool = True, most_changes: int = 6) -> Materialized:
    """Retention keeps whole days, of a coarser level no fewer than of a finer one, and never passes the watermark."""
    days = sorted(draw(st.lists(st.integers(0, 15), max_size=4 if retention else 0)), reverse=True)
    kept_from = tuple((level, MONDAY + n * DAY) for level, n in zip(FINE_TO_COARSE, days))
    raw_from = kept_from[0][1] if kept_from else MONDAY
    up_to = max(raw_from, draw(minutes))
    starts = draw(st.lists(minutes.filter(lambda start: start >= raw_from), max_size=most_changes))
    lengths = st.integers(1, 90)
    changed = tuple(TimeRange(start, start + draw(lengths) * MINUTE) for start in starts)
    return Materialized(up_to, changed, kept_from)


def plan(time_range: TimeRange, state: Materialized, levels: tuple[Level, ...]) -> tuple[TimeRange, list[Segment]]:
    whole = answerable(time_range, state, levels)
    return whole, cover(whole, state, levels)


@given(ranges, states(), levels)
def test_the_segments_cover_the_range_exactly_once(
    time_range: TimeRange, state: Materialized, levels: tuple[Level, ...]
) -> None:
    whole, segments = plan(time_range, state, levels)
    parts = sorted(segment.range for segment in segments)
    assert all(parts), "no segment is empty"
    assert all(a.end == b.start for a, b in pairwise(parts)), "neither gap nor overlap"
    assert (parts[0].start, parts[-1].end) == (whole.start, whole.end) if whole else not parts


@given(ranges, states(), levels)
def test_coarse_levels_come_first_and_each_is_in_order(
    time_range: TimeRange, state: Materialized, levels: tuple[Level, ...]
) -> None:
    _, segments = plan(time_range, state, levels)
    order = [(FINE_TO_COARSE.index(RAW) - FINE_TO_COARSE.index(segment.level), segment.range) for segment in segments]
    assert order == sorted(order)
    assert {segment.level for segment in segments} <= {RAW, *levels}


@given(ranges, states(), levels)
def test_aggregates_are_read_in_whole_buckets_that_are_materialized_and_unchanged(
    time_range: TimeRange, state: Materialized, levels: tuple[Level, ...]
) -> None:
    _, segments = plan(time_range, state, levels)
    for segment in segments:
        if segment.level is RAW:
            continue
        assert segment.range.start == floor(segment.range.start, segment.level.width)
        assert segment.range.end == floor(segment.range.end, segment.level.width)
        assert segment.range.end <= state.up_to
        assert not any(segment.range.overlaps(change) for change in state.invalidations)


@given(ranges, states(), levels)
def test_no_level_is_read_before_it_is_kept(
    time_range: TimeRange, state: Materialized, levels: tuple[Level, ...]
) -> None:
    _, segments = plan(time_range, state, levels)
    for segment in segments:
        assert state.reaches(segment.level, segment.range.start), segment


@given(ranges, states(), levels)
def test_a_plan_holds_in_the_state_that_it_was_made_in(
    time_range: TimeRange, state: Materialized, levels: tuple[Level, ...]
) -> None:
    _, segments = plan(time_range, state, levels)
    assert state.supports(segments)


@given(ranges, states(), levels)
def test_rows_are_read_only_if_no_aggregate_is_valid(
    time_range: TimeRange, state: Materialized, levels: tuple[Level, ...]
) -> None:
    assume(levels)
    _, segments = plan(time_range, state, levels)
    finest = levels[-1]
    for segment in segments:
        if segment.level is not RAW:
            continue
        inner = TimeRange(
            ceiling(segment.range.start, finest.width), min(floor(segment.range.end, finest.width), state.up_to)
        )
        untouched = list(inner.minus(sorted(state.invalidations))) if inner else []
        whole = [part for part in untouched if ceiling(part.start, finest.width) < floor(part.end, finest.width)]
        assert not whole, segment


@given(ranges, states(retention=False))
def test_a_range_is_answered_as_it_was_asked_while_all_rows_are_kept(
    time_range: TimeRange, state: Materialized
) -> None:
    assert answerable(time_range, state) == time_range


@given(ranges, states())
def test_a_range_is_widened_by_less_than_a_day_at_each_end(time_range: TimeRange, state: Materialized) -> None:
    kept = [state.start_of(level) for level in FINE_TO_COARSE]
    beginning = min(start for start in kept if start) if all(kept) else MONDAY - DAY
    assume(beginning <= time_range.start)
    whole = answerable(time_range, state)
    assert time_range.start - DAY < whole.start <= time_range.start
    assert time_range.end <= whole.end < time_range.end + DAY


@given(instants, states(), levels)
def test_an_empty_range_stays_empty_whatever_is_kept(
    instant: datetime, state: Materialized, levels: tuple[Level, ...]
) -> None:
    empty = TimeRange(instant, instant)
    assert plan(empty, state, levels) == (empty, [])


def test_the_ends_move_to_the_buckets_of_the_finest_level_that_is_left() -> None:
    kept_from = ((RAW, MONDAY + 9 * DAY), (MINUTES, MONDAY + 6 * DAY), (HOURS, MONDAY + 3 * DAY))
    state = Materialized(MONDAY + 15 * DAY, kept_from=kept_from)
    cut = 10 * HOUR + 20 * MINUTE + timedelta(seconds=30)
    for day, start, end in (
        (12, cut, cut),
        (7, 10 * HOUR + 20 * MINUTE, 10 * HOUR + 21 * MINUTE),
        (4, 10 * HOUR, 11 * HOUR),
        (1, timedelta(), DAY),
    ):
        midnight = MONDAY + day * DAY
        asked = TimeRange(midnight + cut, midnight + cut + timedelta(seconds=1))
        whole = TimeRange(midnight + start, max(midnight + end, asked.end if day == 12 else MONDAY))
        assert answerable(asked, state) == whole, day


def test_what_lies_behind_every_level_cannot_be_answered() -> None:
    kept_from = tuple((level, MONDAY + day * DAY) for level, day in zip(FINE_TO_COARSE, (9, 6, 3, 2)))
    state = Materialized(MONDAY + 15 * DAY, kept_from=kept_from)
    assert not answerable(TimeRange(MONDAY, MONDAY + HOUR), state)
    assert answerable(TimeRange(MONDAY, MONDAY + 12 * DAY), state).start == MONDAY + 2 * DAY


def test_a_change_behind_the_raw_edge_is_not_read_from_rows_that_are_gone() -> None:
    state = Materialized(
        MONDAY + 15 * DAY,
        invalidations=(TimeRange(MONDAY + 4 * DAY, MONDAY + 4 * DAY + MINUTE),),
        kept_from=((RAW, MONDAY + 9 * DAY),),
    )
    segments = cover(TimeRange(MONDAY, MONDAY + 12 * DAY), state)
    assert all(state.reaches(segment.level, segment.range.start) for segment in segments), segments


def test_a_range_with_cut_ends_takes_days_then_hours_then_minutes_then_rows() -> None:
    start, end = MONDAY + timedelta(seconds=1), MONDAY + 3 * DAY - timedelta(seconds=1)
    segments = cover(TimeRange(start, end), Materialized(MONDAY + 10 * DAY))
    assert [(segment.level.name, segment.range.start - MONDAY, segment.range.end - MONDAY) for segment in segments] == [
        ("day", DAY, 2 * DAY),
        ("hour", HOUR, DAY),
        ("hour", 2 * DAY, 3 * DAY - HOUR),
        ("minute", MINUTE, HOUR),
        ("minute", 3 * DAY - HOUR, 3 * DAY - MINUTE),
        ("raw", timedelta(seconds=1), MINUTE),
        ("raw", 3 * DAY - MINUTE, 3 * DAY - timedelta(seconds=1)),
    ]


def test_the_tail_behind_the_watermark_is_read_from_rows() -> None:
    up_to = MONDAY + DAY + 2 * HOUR + 3 * MINUTE
    segments = cover(TimeRange(MONDAY, MONDAY + 2 * DAY), Materialized(up_to))
    assert [(segment.level, segment.range) for segment in segments] == [
        (DAYS, TimeRange(MONDAY, MONDAY + DAY)),
        (HOURS, TimeRange(MONDAY + DAY, MONDAY + DAY + 2 * HOUR)),
        (MINUTES, TimeRange(MONDAY + DAY + 2 * HOUR, up_to)),
        (RAW, TimeRange(up_to, MONDAY + 2 * DAY)),
    ]


@given(ranges, states(retention=False, most_changes=3 * MAX_INVALIDATIONS))
@settings(max_examples=50)
def test_the_number_of_segments_is_bounded_however_much_has_changed(time_range: TimeRange, state: Materialized) -> None:
    segments = cover(time_range, state)
    assert len(segments) <= SEGMENTS_FOR_A_CHANGE * MAX_INVALIDATIONS + SEGMENTS_FOR_THE_ENDS


def test_a_change_in_every_hour_is_joined_into_few_ranges() -> None:
    changed = tuple(TimeRange(MONDAY + n * HOUR, MONDAY + n * HOUR + MINUTE) for n in range(20 * 24))
    state = Materialized(MONDAY + HORIZON, changed)
    segments = cover(TimeRange(MONDAY, MONDAY + HORIZON), state)
    assert len(segments) <= SEGMENTS_FOR_A_CHANGE * MAX_INVALIDATIONS + SEGMENTS_FOR_THE_ENDS
    assert not any(s.level is not RAW and s.range.overlaps(c) for s in segments for c in changed)


@given(ranges, states(retention=False), st.data())
def test_a_plan_does_not_hold_any_more_once_a_change_reaches_into_an_aggregate(
    time_range: TimeRange, state: Materialized, data: st.DataObject
) -> None:
    aggregates = [segment for segment in cover(time_range, state) if segment.level is not RAW]
    assume(aggregates)
    inside = data.draw(st.sampled_from(aggregates)).range
    start = inside.start + data.draw(st.integers(0, (inside.length - MINUTE) // MINUTE)) * MINUTE
    later = replace(state, invalidations=(*state.invalidations, TimeRange(start, start + MINUTE)))
    assert not later.supports(cover(time_range, state))
    assert later.supports(cover(time_range, later))


@given(ranges, states(retention=False))
def test_a_plan_goes_on_to_hold_while_only_what_it_reads_from_rows_changes(
    time_range: TimeRange, state: Materialized
) -> None:
    segments = cover(time_range, state)
    changes = tuple(segment.range for segment in segments if segment.level is RAW)
    assert replace(state, invalidations=changes, up_to=state.up_to + DAY, generation=7).supports(segments)


@pytest.mark.parametrize("level", FINE_TO_COARSE)
def test_a_plan_does_not_hold_any_more_once_retention_has_passed_it(level: Level) -> None:
    segments = [Segment(level, TimeRange(MONDAY, MONDAY + DAY))]
    state = Materialized(MONDAY + DAY)
    assert state.supports(segments)
    assert replace(state, kept_from=((level, MONDAY),)).supports(segments)
    assert not replace(state, kept_from=((level, MONDAY + DAY),)).supports(segments)


def test_a_plan_does_not_hold_if_the_watermark_is_behind_it() -> None:
    segments = [Segment(MINUTES, TimeRange(MONDAY, MONDAY + HOUR))]
    assert not Materialized(MONDAY + HOUR - MINUTE).supports(segments)


@pytest.mark.parametrize("edge", [datetime.min, datetime.max])
def test_the_ends_of_the_calendar_are_ends_like_any_other(edge: datetime) -> None:
    edge = edge.replace(tzinfo=timezone.utc)
    range = TimeRange(min(edge, MONDAY), max(edge, MONDAY))
    for up_to in (MONDAY, datetime(9999, 1, 1, tzinfo=timezone.utc)):
        parts = sorted(segment.range for segment in cover(range, Materialized(up_to)))
        assert (parts[0].start, parts[-1].end) == (range.start, range.end)
        assert all(a.end == b.start for a, b in pairwise(parts))


@given(ranges, states(retention=False))
def test_an_hour_is_pending_repair_if_an_invalidation_behind_the_watermark_touches_it(
    time_range: TimeRange, state: Materialized
) -> None:
    behind = [part for part in state.invalidations if part.end <= state.up_to and part.overlaps(time_range)]
    touched = {
        hour
        for part in behind
        for hour in range(
            _hour(max(part.start, time_range.start)), _hour(min(part.end, time_range.end) - EVER_SO_LITTLE) + 1
        )
    }
    assert hours_pending_repair(time_range, state) == len(touched)


EVER_SO_LITTLE = timedelta(microseconds=1)


def _hour(instant: datetime) -> int:
    return int(instant.timestamp() // 3600)
