"""Answer questions about many calls from the aggregates, exactly."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple, Protocol

from app.application.settled import SettledTallies
from app.domain.cover import COARSE_TO_FINE, Level, Materialized, Segment, answerable, cover
from app.domain.errors import StorageUnavailable
from app.domain.instants import HOUR, TimeRange, floor
from app.domain.statistics import Freshness, Selection, Series, Tally

# After so many plans that were overtaken by a change, one is made that none can overtake.
OPTIMISTIC_PLANS = 10
RECENT_S = 30.0


class Key(NamedTuple):
    """What a tally is about; a part that the question does not ask for is 0 or None."""

    point: int = 0
    model_name: str | None = None
    model_version: str | None = None


@dataclass(frozen=True)
class Question:
    """Which calls to count, over which range, by what, and whether percentiles are wanted."""

    selection: Selection
    range: TimeRange
    group_by: tuple[str, ...] = ()
    series: Series | None = None
    latency: bool = True

    @cached_property
    def levels(self) -> Sequence[Level]:
        """The aggregates whose buckets each lie within one point of the series."""
        inner = self.series.edges[1:-1] if self.series else ()
        return [level for level in COARSE_TO_FINE if all(edge == floor(edge, level.width) for edge in inner)]


@dataclass(frozen=True)
class Reading:
    """What the segments hold, and the state of the aggregates in the very snapshot it was read from.

    `settled` is what the segments of whole hours and days hold, `tallies` all the rest.
    """

    tallies: dict[Key, Tally]
    settled: Mapping[Key, Tally]
    state: Materialized


@dataclass(frozen=True)
class Answer:
    """The tallies for the range that could be answered (wider than asked where the finer levels are gone)."""

    tallies: dict[Key, Tally]
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
    """Reads segments, and the state of the aggregates in the same snapshot."""

    def state(self, range: TimeRange) -> Materialized: ...

    def read(self, question: Question, range: TimeRange, segments: Sequence[Segment]) -> Reading: ...


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
        self._settled: SettledTallies[Key] = SettledTallies()

    def ask(self, question: Question) -> Answer:
        """Count the calls of the range, equal to a full scan of the log in the same snapshot."""
        state = self._recent() or self._store.state(question.range)
        self._last_seen = None  # until an answer has come
        for _ in range(OPTIMISTIC_PLANS):
            plan = _Plan.of(question, state)
            known = self._settled.get(plan.settled, state.generation) if plan.settled else {}
            reading = self._store.read(question, plan.range, plan.segments if known is None else plan.fresh)
            if plan.holds_in(reading.state):
                self._saw(reading.state)
                if known is None:
                    known = reading.settled
                    self._settled.put(plan.settled, reading.state.generation, known)
                return plan.answer(reading, known)
            state = reading.state
        plan = _Plan.of(question, state.raw_only)
        reading = self._store.read(question, plan.range, plan.segments)
        if not reading.state.supports(plan.segments):
            raise StorageUnavailable("The log's past changes faster than it can be counted.")
        return plan.answer(reading, reading.settled)

    def _recent(self) -> Materialized | None:
        """The state that was seen last, unless so long ago that a plan on it would read much raw that need not be."""
        return self._last_seen if self._monotonic() - self._seen_at < RECENT_S else None

    def _saw(self, state: Materialized) -> None:
        self._last_seen, self._seen_at = state, self._monotonic()


@dataclass(frozen=True)
class _Plan:
    question: Question
    range: TimeRange
    segments: list[Segment]
    generation: int | None

    @classmethod
    def of(cls, question: Question, state: Materialized) -> _Plan:
        range = answerable(question.range, state, question.levels)
        return cls(question, range, cover(range, state, question.levels), state.generation)

    @property
    def fresh(self) -> list[Segment]:
        return [segment for segment in self.segments if not segment.is_settled]

    @property
    def settled(self) -> tuple[Hashable, ...]:
        """What tells the settled part of this answer from others; empty where there is none."""
        segments = tuple(segment for segment in self.segments if segment.is_settled)
        return (replace(self.question, range=segments[0].range), *segments) if segments else ()

    def holds_in(self, state: Materialized) -> bool:
        """Whether what was read by this plan is right in the state that was read with it.

        Not where the aggregates were repaired meanwhile: the statement may have been planned before that, without the
        rows that the repair has put beside those in the columnstore, and have been run after it.
        """
        return state.generation == self.generation and state.supports(self.segments)

    def answer(self, reading: Reading, settled: Mapping[Key, Tally]) -> Answer:
        tallies = {**settled, **reading.tallies}
        for key in settled.keys() & reading.tallies.keys():
            tallies[key] = settled[key] + reading.tallies[key]
        total = sum(tally.total for tally in tallies.values())
        raw = sum(tally.read_raw for tally in tallies.values())
        hours = {floor(c.start, HOUR) for c in reading.state.changed if c.overlaps(self.range)}
        freshness = Freshness(reading.state.up_to, raw / total if total else 0.0, len(hours))
        return Answer(tallies, self.range, freshness)
