"""Answer questions about many calls from the aggregates, exactly."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import NamedTuple, Protocol

from app.application.segment_cache import SettledTallies
from app.domain.cover import COARSE_TO_FINE, Level, Materialized, Segment, answerable, cover, hours_pending_repair
from app.domain.errors import InvalidInput, StorageUnavailable
from app.domain.instants import TimeRange, floor
from app.domain.statistics import Freshness, Selection, Series, Tally

# After so many plans that were overtaken by a change, one is made that none can overtake.
OPTIMISTIC_PLANS = 10
RECENT_S = 30.0
# An answer of 1,000 groups with percentiles has about half a megabyte.
MAX_GROUPS = 1000


class GroupKey(NamedTuple):
    """What a tally is about; a part that the question does not ask for is 0 or None."""

    point: int = 0
    model_name: str | None = None
    model_version: str | None = None


@dataclass(frozen=True)
class Question:
    """Which calls to count, over which range, by what, and whether percentiles are wanted.

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
        """What is to be read of a segment, and in which point it begins."""
        first, edges = self.series.within(segment.range) if self.series else (0, ())
        return Part(segment, self.selection, self.group_by, edges, self.latency), first


class Part(NamedTuple):
    """What is asked of one segment: the same for all questions whose answers have this part in common.

    `edges` are where one point of a series ends and the next one begins, within the segment.
    """

    segment: Segment
    selection: Selection
    group_by: tuple[str, ...] = ()
    edges: tuple[datetime, ...] = ()
    latency: bool = True


@dataclass(frozen=True)
class Reading:
    """What is in each part, and the state of the aggregates in the very snapshot it was read from.

    Points are counted from the first of a part; `dropped` is about the whole range.
    """

    parts: Sequence[Mapping[GroupKey, Tally]]
    dropped: Mapping[GroupKey, Tally]
    state: Materialized


@dataclass(frozen=True)
class Answer:
    """The tallies for the range that could be answered (wider than asked where the finer levels are gone)."""

    tallies: dict[GroupKey, Tally]
    range: TimeRange
    freshness: Freshness

    @property
    def total(self) -> Tally:
        """All groups and points together."""
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

    A plan is made on the state that was seen last, and read together with the state as it is now: one round trip.
    Where the plan does not hold any more, it is made again on what has just been seen. State and segments are never
    read in two statements of one snapshot: a chunk that moves to the columnstore meanwhile would be in neither.
    """

    def __init__(self, store: StatisticsStore, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._monotonic = monotonic
        self._seen_at = 0.0
        self._last_seen: Materialized | None = None
        self._settled: SettledTallies[Part, GroupKey] = SettledTallies(monotonic)

    def ask(self, question: Question) -> Answer:
        """Count the calls of the range, equal to a full scan of the log in the same snapshot.

        Raises InvalidInput if there are more groups than the question allows.
        """
        self._check_groups(question)
        state = self._recent() or self._store.state(question.range)
        self._last_seen = None  # until an answer has come
        for _ in range(OPTIMISTIC_PLANS):
            plan = _Plan.of(question, state)
            known = self._settled.get(plan.settled, state.generation)
            unknown = [part for part in plan.parts if part not in known]
            reading = self._store.read(question, plan.range, unknown)
            if plan.holds_in(reading.state, known):
                self._saw(reading.state)
                fresh = dict(zip(unknown, reading.parts))
                now_settled = {part: fresh[part] for part in unknown if reading.state.settles(part.segment)}
                self._settled.put(now_settled, reading.state.generation)
                return plan.answer(reading, known | fresh)
            state = reading.state
        plan = _Plan.of(question, state.raw_only)
        reading = self._store.read(question, plan.range, list(plan.parts))
        if not reading.state.supports(plan.segments):
            raise StorageUnavailable("The log's past changes faster than it can be counted.")
        return plan.answer(reading, dict(zip(plan.parts, reading.parts)))

    def _check_groups(self, question: Question) -> None:
        """Count the groups before anything is read of them, and none of them if few models were ever logged."""
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
        """The state that was seen last, unless so long ago that a plan on it would read much raw that need not be."""
        return self._last_seen if self._monotonic() - self._seen_at < RECENT_S else None

    def _saw(self, state: Materialized) -> None:
        self._last_seen, self._seen_at = state, self._monotonic()


@dataclass(frozen=True)
class _Plan:
    """Which parts to read of a range (wider than asked where finer levels are gone), made on one state."""

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
        """What is to be read of each segment, and the point in which it begins."""
        return dict(map(self.question.about, self.segments))

    @property
    def settled(self) -> list[Part]:
        """The parts that may be known from an earlier answer."""
        return [part for part in self.parts if self.state.settles(part.segment)]

    def holds_in(self, state: Materialized, known: Iterable[Part]) -> bool:
        """Whether what was read by this plan, and known before, is right in the state that was read with it.

        Not where the aggregates were repaired meanwhile: the statement may have been planned before that, without the
        rows that the repair has put beside those in the columnstore, and have been run after it.
        """
        return (
            state.generation == self.state.generation
            and state.supports(self.segments)
            and all(state.settles(part.segment) for part in known)
        )

    def answer(self, reading: Reading, parts: Mapping[Part, Mapping[GroupKey, Tally]]) -> Answer:
        tallies: dict[GroupKey, Tally] = {}
        for part, first in self.parts.items():
            _add(tallies, parts[part], first)
        _add(tallies, reading.dropped, 0)
        total = sum(tally.total for tally in tallies.values())
        raw = sum(tally.read_raw for tally in tallies.values())
        pending = hours_pending_repair(self.range, reading.state)
        freshness = Freshness(reading.state.up_to, raw / total if total else 0.0, pending)
        return Answer(tallies, self.range, freshness)


def _add(tallies: dict[GroupKey, Tally], more: Mapping[GroupKey, Tally], first: int) -> None:
    """Add the tallies of a part that begins in point `first`; neither they nor those of other parts are changed."""
    for (point, model_name, model_version), tally in more.items():
        key = GroupKey(first + point, model_name, model_version)
        tallies[key] = tallies[key] + tally if key in tallies else tally
