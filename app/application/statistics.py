"""Answer questions about many predictions from the aggregates, exactly."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import NamedTuple, Protocol

from app.application.segment_cache import Memory, SegmentCache
from app.domain.cover import COARSE_TO_FINE, Level, Materialized, Segment, answerable, cover, hours_pending_repair
from app.domain.errors import InvalidInput, StorageUnavailable
from app.domain.instants import TimeRange, floor
from app.domain.statistics import Freshness, Selection, Series, Tally

# If changes invalidate this many plans in turn, the next plans read raw rows alone. Only a retention edge that moves
# meanwhile invalidates such a plan, and each of the four edges moves once a day.
OPTIMISTIC_PLANS = 10
RAW_PLANS = 5
RECENT_S = 30.0
# An answer of 1,000 groups with percentiles has about half a megabyte.
MAX_GROUPS = 1000


class GroupKey(NamedTuple):
    """The group of a tally; a part that the question does not group by is 0 or None."""

    point: int = 0
    model_name: str | None = None
    model_version: str | None = None


@dataclass(frozen=True)
class Question:
    """Which predictions to count, over which range, grouped by what, and whether percentiles are needed.

    An answer of more than `max_groups` groups is refused; None stands for any number.
    """

    selection: Selection
    range: TimeRange
    group_by: tuple[str, ...] = ()
    series: Series | None = None
    latency: bool = True
    max_groups: int | None = None

    @cached_property
    def levels(self) -> Sequence[Level]:
        """The aggregates whose buckets each lie within one point of the series."""
        inner = self.series.edges[1:-1] if self.series else ()
        coarsest = (
            place for place, level in enumerate(COARSE_TO_FINE)
            if all(edge == floor(edge, level.width) for edge in inner)
        )  # fmt: skip
        return COARSE_TO_FINE[next(coarsest, len(COARSE_TO_FINE)) :]

    def about(self, segment: Segment) -> tuple[Part, int]:
        """Return the part to read for a segment, and the point in which the segment begins."""
        first, edges = self.series.within(segment.range) if self.series else (0, ())
        return Part(segment, self.selection, self.group_by, edges, self.latency), first


class Part(NamedTuple):
    """The query for one segment; questions whose answers have this part in common have equal parts.

    `edges` are the times within the segment at which one point of a series ends and the next one begins.
    """

    segment: Segment
    selection: Selection
    group_by: tuple[str, ...] = ()
    edges: tuple[datetime, ...] = ()
    latency: bool = True


@dataclass(frozen=True)
class Reading:
    """The tallies of each part, and the state of the aggregates in the same snapshot.

    Points are numbered from the first point of a part; `beside` has what clients summarised or dropped in the whole
    range. `is_one_snapshot` is False if the models are on several nodes: then a batch that is being committed may be in
    the tallies of some of its models.
    """

    parts: Sequence[Mapping[GroupKey, Tally]]
    beside: Mapping[GroupKey, Tally]
    state: Materialized
    is_one_snapshot: bool = True


@dataclass(frozen=True)
class Answer:
    """The tallies for the range that could be answered, which is wider than asked if the finer levels are gone."""

    tallies: dict[GroupKey, Tally]
    range: TimeRange
    freshness: Freshness

    @property
    def total(self) -> Tally:
        """The sum of all groups and points."""
        total = Tally()
        for tally in self.tallies.values():
            total.merge(tally)
        return total


class StatisticsStore(Protocol):
    """Reads parts, and the state of the aggregates in the same snapshot."""

    def state(self, time_range: TimeRange) -> Materialized: ...

    def read(self, question: Question, time_range: TimeRange, parts: Sequence[Part]) -> Reading: ...

    def count_groups(self, question: Question, segments: Sequence[Segment] | None, limit: int) -> int: ...


class Statistics:
    """Statistics over any range.

    A plan is made on the last known state, and one statement reads its segments together with the current state. If
    the plan is not valid in the current state, it is made again on that state. State and segments are never read in two
    statements of one snapshot, because a chunk that moves to the columnstore meanwhile would be missing in both.
    """

    def __init__(
        self,
        store: StatisticsStore,
        memory: Memory[Part, GroupKey],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`memory` holds tallies of segments for the next question. It is bounded and forgets after a while."""
        self._store = store
        self._monotonic = monotonic
        self._seen_at = 0.0
        self._last_seen: Materialized | None = None
        self._cache = SegmentCache(memory)

    def ask(self, question: Question) -> Answer:
        """Count the predictions of the range; the answer equals a full scan of the log in the same snapshot.

        Raises InvalidInput if there are more groups than the question allows, and StorageUnavailable.
        """
        self._check_groups(question)
        state = self._recent() or self._store.state(question.range)
        self._last_seen = None  # until an answer has come
        for _ in range(OPTIMISTIC_PLANS):
            plan = _Plan.of(question, state)
            known = self._cache.get(plan.cacheable, state.generation)
            unknown = [part for part in plan.parts if part not in known]
            reading = self._store.read(question, plan.range, unknown)
            if plan.holds_in(reading.state, known):
                self._saw(reading.state)
                fresh = dict(zip(unknown, reading.parts))
                valid = {part: fresh[part] for part in unknown if reading.state.is_valid(part.segment)}
                self._cache.put(valid, reading.state.generation)
                return plan.answer(reading, known | fresh)
            state = reading.state
        for _ in range(RAW_PLANS):
            plan = _Plan.of(question, state.raw_only)
            reading = self._store.read(question, plan.range, list(plan.parts))
            if reading.state.supports(plan.segments):
                return plan.answer(reading, dict(zip(plan.parts, reading.parts)))
            state = reading.state
        raise StorageUnavailable("The log's past changes faster than it can be counted.")

    def _check_groups(self, question: Question) -> None:
        """Refuse a question with too many groups before it is read.

        Groups are counted only if there are many models.
        """
        most = question.max_groups
        if most is None or self._store.count_groups(question, None, most + 1) <= most:
            return
        segments = _Plan.of(question, self._store.state(question.range)).segments
        if self._store.count_groups(question, segments, most + 1) > most:
            raise InvalidInput(
                "group_by",
                f"There are more than {most} groups: choose models with `model_name`, or a shorter range; "
                "GET /api/v1/models has all models, page by page.",
            )

    def _recent(self) -> Materialized | None:
        """Return the last known state, unless a plan on it would read too many raw rows because it is too old."""
        return self._last_seen if self._monotonic() - self._seen_at < RECENT_S else None

    def _saw(self, state: Materialized) -> None:
        self._last_seen, self._seen_at = state, self._monotonic()


@dataclass(frozen=True)
class _Plan:
    """The parts to read for a range, made on one state; the range is wider than asked if finer levels are gone."""

    question: Question
    range: TimeRange
    segments: Sequence[Segment]
    state: Materialized

    @classmethod
    def of(cls, question: Question, state: Materialized) -> _Plan:
        range = answerable(question.range, state, question.levels)
        return cls(question, range, cover(range, state, question.levels), state)

    @cached_property
    def parts(self) -> dict[Part, int]:
        """The part to read for each segment, and the point in which the segment begins."""
        return dict(map(self.question.about, self.segments))

    @property
    def cacheable(self) -> list[Part]:
        """The parts whose tallies may be in the cache."""
        return [part for part in self.parts if self.state.is_valid(part.segment)]

    def holds_in(self, state: Materialized, known: Iterable[Part]) -> bool:
        """Return whether the parts of this plan, and the `known` ones, are right in the state that was read with them.

        They are not if the aggregates were refreshed meanwhile. PostgreSQL may have planned the statement before the
        refresh, without the rows that the refresh put beside those in the columnstore, and have run it afterwards.
        """
        return (
            state.generation == self.state.generation
            and state.supports(self.segments)
            and all(state.is_valid(part.segment) for part in known)
        )

    def answer(self, reading: Reading, parts: Mapping[Part, Mapping[GroupKey, Tally]]) -> Answer:
        tallies: dict[GroupKey, Tally] = {}
        for part, first in self.parts.items():
            _add(tallies, parts[part], first)
        _add(tallies, reading.beside, 0)
        total = sum(tally.total for tally in tallies.values())
        raw = sum(tally.read_raw for tally in tallies.values())
        pending = hours_pending_repair(self.range, reading.state)
        share = raw / total if total else 0.0
        freshness = Freshness(reading.state.up_to, share, pending, is_one_snapshot=reading.is_one_snapshot)
        return Answer(tallies, self.range, freshness)


def _add(tallies: dict[GroupKey, Tally], more: Mapping[GroupKey, Tally], first: int) -> None:
    """Add the tallies of a part that begins in point `first`, without changing them."""
    for (point, model_name, model_version), tally in more.items():
        key = GroupKey(first + point, model_name, model_version)
        tallies[key] = tallies[key] + tally if key in tallies else tally
