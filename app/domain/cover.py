"""Cover a range of time exactly once with the coarsest aggregates that may be trusted for it.

A pure function of the range and of the aggregates' state: whole days from the day aggregate, whole hours beside
them, whole minutes beside those, and raw rows for the rest: the cut minutes at the two ends, the tail after the
watermark, and the invalidated ranges.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from functools import cached_property
from itertools import pairwise

from app.domain.instants import DAY, HOUR, MINUTE, TimeRange, ceiling, floor
from app.domain.predictions import EARLIEST

Round = Callable[[datetime, timedelta], datetime]

# A query has a branch for each segment; more invalidated ranges than this are joined into fewer, longer ones.
MAX_INVALIDATIONS = 24


@dataclass(frozen=True)
class Level:
    """A way to read the log: buckets of `width`, or single rows if the width is zero."""

    name: str
    width: timedelta

    def __str__(self) -> str:
        return self.name


RAW = Level("raw", timedelta())
MINUTES = Level("minute", MINUTE)
HOURS = Level("hour", HOUR)
DAYS = Level("day", DAY)
COARSE_TO_FINE = (DAYS, HOURS, MINUTES)


@dataclass(frozen=True)
class Segment:
    """A part of a range and the level to read it from."""

    level: Level
    range: TimeRange


@dataclass(frozen=True)
class Materialized:
    """The state of the aggregates at one moment.

    `up_to`: the watermark; every bucket that ends there or before is materialised.
    `invalidations`: ranges whose rows have changed since their last refresh.
    `kept_from`: for each level (raw included) the time from which retention keeps it.
    `generation`: a number that grows when buckets below the watermark are refreshed or dropped, and before a range is
    taken out of `invalidations`. It is None on the plain engine, whose aggregates follow every write.
    """

    up_to: datetime
    invalidations: tuple[TimeRange, ...] = ()
    kept_from: tuple[tuple[Level, datetime], ...] = ()
    generation: int | None = None

    def start_of(self, level: Level) -> datetime | None:
        """Return the time from which retention keeps the level; None if it keeps all."""
        return dict(self.kept_from).get(level)

    def reaches(self, level: Level, instant: datetime) -> bool:
        """Return whether retention has kept `instant` in the level."""
        start = self.start_of(level)
        return start is None or start <= instant

    @cached_property
    def stale(self) -> list[TimeRange]:
        """The invalidated ranges, without their part before the retention edge of raw rows."""
        edge = self.start_of(RAW)
        if edge is None:
            return list(self.invalidations)
        return [part for c in self.invalidations if (part := TimeRange(max(c.start, edge), c.end))]

    @property
    def raw_only(self) -> Materialized:
        """Return the state with the aggregates closed, except before the retention edge of raw rows."""
        return replace(self, up_to=self.start_of(RAW) or EARLIEST)

    def is_valid(self, segment: Segment) -> bool:
        """Return whether a segment lies below the watermark and is not invalidated.

        Its rows or buckets stay unchanged for the rest of the generation.
        """
        time_range = segment.range
        return (
            self.reaches(segment.level, time_range.start)
            and time_range.end <= self.up_to
            and not any(time_range.overlaps(part) for part in self.stale)
        )

    def supports(self, segments: Sequence[Segment]) -> bool:
        """Return whether segments planned on an earlier state also give the right answer in this state."""
        return all(
            self.reaches(RAW, segment.range.start) if segment.level is RAW else self.is_valid(segment)
            for segment in segments
        )


def hours_pending_repair(time_range: TimeRange, state: Materialized) -> int:
    """Count the hours of UTC that the range touches and that hold an invalidation below the watermark.

    The view prediction_invalid_hour counts the same over all time.
    """
    hours = [
        TimeRange(floor(max(part.start, time_range.start), HOUR), ceiling(min(part.end, time_range.end), HOUR))
        for part in state.invalidations
        if part.end <= state.up_to and part.overlaps(time_range)
    ]
    return sum((part.end - part.start) // HOUR for part in _merged(hours, len(hours)))


def answerable(time_range: TimeRange, state: Materialized, levels: Sequence[Level] = COARSE_TO_FINE) -> TimeRange:
    """Return the nearest range that can be answered: an end moves out to a whole bucket if finer levels are gone.

    An empty range stays as it is: no predictions are in it, whatever retention has kept.
    """
    if not time_range:
        return time_range
    return TimeRange(_snap(time_range.start, state, levels, floor), _snap(time_range.end, state, levels, ceiling))


def _snap(instant: datetime, state: Materialized, levels: Sequence[Level], to_bucket: Round) -> datetime:
    if state.reaches(RAW, instant):
        return instant
    for level in reversed(levels):
        if state.reaches(level, floor(instant, level.width)):
            return to_bucket(instant, level.width)
    return min(state.start_of(level) or instant for level in (RAW, *levels))


def cover(time_range: TimeRange, state: Materialized, levels: Sequence[Level] = COARSE_TO_FINE) -> list[Segment]:
    """Split a range into segments that cover it exactly once, coarsest level first, each level in order of time.

    `levels` are the aggregates that may be used, coarsest first. Raw rows may always be used.
    """
    invalid = _merged([part for part in state.stale if part.overlaps(time_range)], MAX_INVALIDATIONS)
    segments: list[Segment] = []
    gaps = [time_range] if time_range else []
    for level in levels:
        left: list[TimeRange] = []
        for gap in gaps:
            whole = _whole_buckets(gap, level, state, invalid)
            segments += [Segment(level, part) for part in whole]
            left += gap.minus(whole)
        gaps = left
    return segments + [Segment(RAW, gap) for gap in gaps]


def cover_minutes(time_range: TimeRange, levels: Sequence[Level] = COARSE_TO_FINE) -> list[Segment]:
    """Cover the minutes that begin in a range with whole buckets, for tables whose buckets are always up to date.

    No state is needed: the ends of an answerable range are ends of the buckets that retention has kept.
    """
    minutes = TimeRange(_within(ceiling, time_range.start, MINUTES), _within(ceiling, time_range.end, MINUTES))
    always = Materialized(datetime.max.replace(tzinfo=timezone.utc))
    return [part for part in cover(minutes, always, levels or (MINUTES,)) if part.level is not RAW]


def _whole_buckets(gap: TimeRange, level: Level, state: Materialized, invalid: list[TimeRange]) -> list[TimeRange]:
    """Return the ranges of whole buckets of a level in the gap: below the watermark, and not invalidated."""
    kept = state.start_of(level)
    start = max(gap.start, kept) if kept else gap.start
    inner = TimeRange(_within(ceiling, start, level), _within(floor, min(gap.end, state.up_to), level))
    stale = [TimeRange(floor(c.start, level.width), ceiling(c.end, level.width)) for c in invalid]
    return list(inner.minus(stale)) if inner else []


def _within(to_bucket: Round, instant: datetime, level: Level) -> datetime:
    try:
        return to_bucket(instant, level.width)
    except OverflowError:  # the last bucket of year 9999 has no end that could be written
        return instant


def _merged(ranges: list[TimeRange], limit: int) -> list[TimeRange]:
    """Join ranges that touch, then those with the smallest gaps between them until few enough are left."""
    merged: list[TimeRange] = []
    for part in sorted(ranges):
        if merged and part.start <= merged[-1].end:
            merged[-1] = replace(merged[-1], end=max(merged[-1].end, part.end))
        else:
            merged.append(part)
    if len(merged) <= limit:
        return merged
    pairs = list(pairwise(merged))
    wide = sorted(range(len(pairs)), key=lambda i: pairs[i][1].start - pairs[i][0].end)[-(limit - 1) :]
    cuts = sorted(wide)
    starts = [merged[0].start, *(pairs[i][1].start for i in cuts)]
    ends = [*(pairs[i][0].end for i in cuts), merged[-1].end]
    return [TimeRange(start, end) for start, end in zip(starts, ends)]
