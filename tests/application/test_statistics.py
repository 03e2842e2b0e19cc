"""Plans are made on the last known state, and made again if that is outdated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone

import pytest

from app.application.statistics import OPTIMISTIC_PLANS, RAW_PLANS, GroupKey, Part, Question, Reading, Statistics
from app.domain.cover import DAYS, HOURS, MINUTES, RAW, Level, Materialized, Segment
from app.domain.errors import StorageUnavailable
from app.domain.instants import DAY, HOUR, MINUTE, TimeRange
from app.domain.statistics import Selection, Series, Tally
from app.infrastructure.segment_memory import segment_memory

MONDAY = datetime(2026, 6, 1, tzinfo=timezone.utc)
WEEK = Question(Selection(), TimeRange(MONDAY, MONDAY + 7 * DAY))
WHOLE = Materialized(MONDAY + 30 * DAY)


def changed(*hours: int, up_to: datetime = WHOLE.up_to) -> Materialized:
    """A state in which a minute of these hours since MONDAY has changed."""
    starts = [MONDAY + hour * HOUR for hour in hours]
    return Materialized(up_to, tuple(TimeRange(start, start + MINUTE) for start in starts))


@dataclass
class FakeStore:
    """A store whose state moves on to the next one before each read, until the last."""

    states: list[Materialized]
    plans: list[list[Segment]] = field(default_factory=list)
    asked_for_state: int = 0

    def _now(self) -> Materialized:
        return self.states[0]

    def state(self, time_range: TimeRange) -> Materialized:
        self.asked_for_state += 1
        return self._now()

    def read(self, question: Question, time_range: TimeRange, parts: Sequence[Part]) -> Reading:
        if len(self.states) > 1:
            self.states.pop(0)
        self.plans.append([part.segment for part in parts])
        tallies = [{GroupKey(): Tally(total=100 * len(self.plans), read_raw=5)}]
        return Reading(tallies + [{}] * (len(parts) - 1), {}, self._now())

    def count_groups(self, question: Question, segments: Sequence[Segment] | None, limit: int) -> int:
        raise AssertionError("only a question with a limit counts its groups")


def test_a_plan_that_still_holds_is_read_once() -> None:
    store = FakeStore([WHOLE])
    answer = Statistics(store, {}).ask(WEEK)
    assert (answer.total.total, len(store.plans)) == (100, 1)
    assert store.plans == [[Segment(DAYS, WEEK.range)]]


def test_the_next_question_starts_from_the_state_that_was_seen_last() -> None:
    store = FakeStore([WHOLE])
    statistics = Statistics(store, {})
    statistics.ask(WEEK)
    statistics.ask(WEEK)
    assert (store.asked_for_state, len(store.plans)) == (1, 2)


def test_a_plan_that_was_overtaken_by_a_change_is_made_again_without_what_changed() -> None:
    overtaken = changed(30)
    store = FakeStore([WHOLE, overtaken])
    answer = Statistics(store, {}).ask(WEEK)
    assert (answer.total.total, len(store.plans)) == (200, 2)
    assert overtaken.supports(store.plans[-1])
    assert not overtaken.supports(store.plans[0])


def test_a_change_elsewhere_does_not_overtake_a_plan() -> None:
    store = FakeStore([WHOLE, changed(24 * 20)])
    assert Statistics(store, {}).ask(WEEK).total.total == 100


def test_a_watermark_that_moves_on_does_not_overtake_a_plan() -> None:
    store = FakeStore([Materialized(MONDAY + 3 * DAY), WHOLE])
    assert Statistics(store, {}).ask(WEEK).total.total == 100


def test_a_plan_whose_rows_were_dropped_meanwhile_is_made_again() -> None:
    question = Question(Selection(), TimeRange(MONDAY, MONDAY + DAY + timedelta(seconds=1)))
    dropped = Materialized(WHOLE.up_to, kept_from=((RAW, MONDAY + 3 * DAY),))
    store = FakeStore([WHOLE, dropped])
    answer = Statistics(store, {}).ask(question)
    assert dropped.supports(store.plans[-1])
    assert answer.range == TimeRange(MONDAY, MONDAY + DAY + MINUTE)


def test_a_plan_from_before_a_repair_is_made_again() -> None:
    before, after = replace(WHOLE, generation=1), replace(WHOLE, generation=2)
    store = FakeStore([before, after])
    answer = Statistics(store, {}).ask(WEEK)
    assert (answer.total.total, len(store.plans)) == (200, 2)


def test_after_many_plans_that_were_overtaken_all_is_read_from_rows() -> None:
    states = [WHOLE, *(changed(*range(i)) for i in range(1, OPTIMISTIC_PLANS + 2))]
    store = FakeStore(states)
    answer = Statistics(store, {}).ask(WEEK)
    assert len(store.plans) == OPTIMISTIC_PLANS + 1
    assert store.plans[-1] == [Segment(RAW, WEEK.range)]
    assert answer.total.total == 100 * (OPTIMISTIC_PLANS + 1), "the answer is what was read last"


def test_if_rows_are_gone_the_last_plan_reads_the_aggregates_of_them() -> None:
    edge = ((RAW, MONDAY + DAY),)
    states = [WHOLE, *(replace(changed(*range(24, 24 + i)), kept_from=edge) for i in range(1, OPTIMISTIC_PLANS + 2))]
    store = FakeStore(states)
    Statistics(store, {}).ask(WEEK)
    assert store.plans[-1] == [
        Segment(DAYS, TimeRange(MONDAY, MONDAY + DAY)), Segment(RAW, TimeRange(MONDAY + DAY, MONDAY + 7 * DAY))
    ]  # fmt: skip


def test_if_retention_moves_during_the_last_plan_it_is_made_again() -> None:
    changing = [changed(*range(48, 48 + i)) for i in range(1, OPTIMISTIC_PLANS + 1)]
    moved = replace(changing[-1], kept_from=((RAW, MONDAY + DAY),))
    store = FakeStore([WHOLE, *changing, moved])
    answer = Statistics(store, {}).ask(WEEK)
    assert (answer.range, len(store.plans)) == (WEEK.range, OPTIMISTIC_PLANS + 2)
    assert store.plans[-1] == [
        Segment(DAYS, TimeRange(MONDAY, MONDAY + DAY)), Segment(RAW, TimeRange(MONDAY + DAY, MONDAY + 7 * DAY))
    ]  # fmt: skip


def test_if_retention_never_stands_still_the_question_is_put_off() -> None:
    states = [
        replace(changed(*range(48, 48 + i)), kept_from=((RAW, MONDAY + max(i - OPTIMISTIC_PLANS, 0) * HOUR),))
        for i in range(1, OPTIMISTIC_PLANS + RAW_PLANS + 1)
    ]
    store = FakeStore([WHOLE, *states])
    with pytest.raises(StorageUnavailable):
        Statistics(store, {}).ask(WEEK)
    assert len(store.plans) == OPTIMISTIC_PLANS + RAW_PLANS


def test_a_failed_read_is_not_hidden_and_the_next_question_is_answered() -> None:
    class Failing(FakeStore):
        def read(self, question: Question, time_range: TimeRange, parts: Sequence[Part]) -> Reading:
            if not self.plans:
                self.plans.append([])
                raise StorageUnavailable("away")
            return super().read(question, time_range, parts)

    statistics = Statistics(Failing([WHOLE]), {})
    with pytest.raises(StorageUnavailable):
        statistics.ask(WEEK)
    assert statistics.ask(WEEK).total.total == 200


def test_an_answer_says_how_fresh_it_is() -> None:
    store = FakeStore([changed(30, 31, 24 * 20)])
    freshness = Statistics(store, {}).ask(WEEK).freshness
    assert (freshness.watermark, freshness.raw_share, freshness.hours_pending_repair) == (WHOLE.up_to, 0.05, 2)


def test_an_answer_names_the_range_that_it_is_about() -> None:
    cut = TimeRange(MONDAY + timedelta(seconds=30), MONDAY + DAY)
    store = FakeStore([Materialized(WHOLE.up_to, kept_from=((RAW, MONDAY + 9 * DAY), (MINUTES, MONDAY + 9 * DAY)))])
    assert Statistics(store, {}).ask(Question(Selection(), cut)).range == TimeRange(MONDAY, MONDAY + DAY)


def levels_of(series: Series) -> Sequence[Level]:
    return Question(Selection(), TimeRange(series.edges[0], series.edges[-1]), series=series).levels


@pytest.mark.parametrize(
    ("point", "levels"),
    [(DAY, [DAYS, HOURS, MINUTES]), (HOUR, [HOURS, MINUTES]), (15 * MINUTE, [MINUTES]), (timedelta(seconds=20), [])],
)
def test_a_series_uses_the_levels_whose_buckets_fit_into_its_points(point: timedelta, levels: list[object]) -> None:
    series = Series(tuple(MONDAY + n * point for n in range(6)))
    assert levels_of(series) == tuple(levels)


def test_the_cut_ends_of_a_series_do_not_matter_to_its_levels() -> None:
    series = Series((MONDAY + timedelta(seconds=7), MONDAY + DAY, MONDAY + 2 * DAY, MONDAY + 2 * DAY + MINUTE))
    assert levels_of(series) == (DAYS, HOURS, MINUTES)


def test_the_total_is_the_sum_of_all_groups_and_points() -> None:
    class Grouping(FakeStore):
        def read(self, question: Question, time_range: TimeRange, parts: Sequence[Part]) -> Reading:
            return Reading([{GroupKey(n, name): Tally(total=10**n) for n, name in enumerate("abc")}], {}, self._now())

    assert Statistics(Grouping([WHOLE]), {}).ask(WEEK).total.total == 111


class CountingStore(FakeStore):
    """Finds one prediction in each part, and one that was dropped."""

    def read(self, question: Question, time_range: TimeRange, parts: Sequence[Part]) -> Reading:
        super().read(question, time_range, parts)
        return Reading([{GroupKey(): Tally(total=1)} for _ in parts], {GroupKey(): Tally(dropped=1)}, self._now())


def in_generations(*generations: int | None) -> CountingStore:
    """A store in which the generation of the aggregates moves on."""
    return CountingStore([Materialized(WHOLE.up_to, generation=generation) for generation in generations])


CUT = Question(Selection(), TimeRange(MONDAY - 90 * MINUTE - timedelta(seconds=1), MONDAY + 7 * DAY))


def test_valid_parts_are_read_once_in_a_generation_rows_among_them() -> None:
    store = in_generations(1)
    statistics = Statistics(store, {})
    first, second = statistics.ask(CUT), statistics.ask(CUT)
    assert [[str(segment.level) for segment in plan] for plan in store.plans] == [["day", "hour", "minute", "raw"], []]
    assert [(answer.total.total, answer.total.dropped) for answer in (first, second)] == [(4, 1), (4, 1)]


def test_what_another_range_has_in_common_with_an_earlier_one_is_not_read_again() -> None:
    store = in_generations(1)
    statistics = Statistics(store, {})
    statistics.ask(CUT)
    later = TimeRange(CUT.range.start + timedelta(seconds=1), CUT.range.end + timedelta(seconds=1))
    assert statistics.ask(Question(Selection(), later)).total.total == 4
    assert [str(segment.level) for segment in store.plans[1]] == ["raw"]


def test_parts_that_are_not_valid_are_read_each_time() -> None:
    store = CountingStore([Materialized(MONDAY + 3 * DAY, generation=1)])
    statistics = Statistics(store, {})
    statistics.ask(WEEK)
    statistics.ask(WEEK)
    assert store.plans[1] == [Segment(RAW, TimeRange(MONDAY + 3 * DAY, MONDAY + 7 * DAY))]


def test_a_part_that_was_read_before_it_was_valid_is_read_again_afterwards() -> None:
    seconds = Question(Selection(), TimeRange(MONDAY + timedelta(seconds=1), MONDAY + timedelta(seconds=2)))
    store = CountingStore([Materialized(MONDAY, generation=1)] * 2 + [Materialized(MONDAY + DAY, generation=1)])
    statistics = Statistics(store, {})
    for question in (seconds, replace(seconds, latency=False), seconds, seconds):
        statistics.ask(question)
    assert [len(plan) for plan in store.plans] == [1, 1, 1, 0]


def test_rows_that_have_changed_since_they_were_read_are_read_again() -> None:
    quiet = replace(WHOLE, generation=1)
    late = replace(quiet, invalidations=(TimeRange(MONDAY - 91 * MINUTE, MONDAY - 90 * MINUTE),))
    store = CountingStore([quiet, quiet, late])
    statistics = Statistics(store, {})
    statistics.ask(CUT)
    assert statistics.ask(CUT).total.total == 4
    assert [[str(segment.level) for segment in plan] for plan in store.plans[1:]] == [[], ["raw"]]


def test_a_new_generation_is_read_anew() -> None:
    store = in_generations(1, 1, 2)
    statistics = Statistics(store, {})
    statistics.ask(CUT)
    assert statistics.ask(CUT).total.total == 4
    assert [len(plan) for plan in store.plans] == [4, 0, 4]


def test_after_a_minute_cached_parts_are_read_again() -> None:
    store, clock = in_generations(1), [0.0]
    statistics = Statistics(store, segment_memory(lambda: clock[0]))
    for clock[0] in (0.0, 59.0, 61.0):
        statistics.ask(CUT)
    assert [len(plan) for plan in store.plans] == [4, 0, 4]


def test_without_generations_nothing_is_remembered() -> None:
    store = in_generations(None)
    statistics = Statistics(store, {})
    statistics.ask(CUT)
    statistics.ask(CUT)
    assert [len(plan) for plan in store.plans] == [4, 4]


@pytest.mark.parametrize(
    "other",
    [
        Question(Selection(("another",)), CUT.range),
        Question(Selection((), "another"), CUT.range),
        Question(Selection(), CUT.range, ("model_name",)),
        Question(Selection(), CUT.range, latency=False),
    ],
)
def test_another_question_about_the_same_hours_is_read_for_itself(other: Question) -> None:
    store = in_generations(1)
    statistics = Statistics(store, {})
    statistics.ask(CUT)
    statistics.ask(other)
    assert [len(plan) for plan in store.plans] == [4, 4]


def test_a_series_that_moves_on_reads_its_ends_alone_and_each_part_stays_in_its_point() -> None:
    class PointByPoint(FakeStore):
        """Finds a prediction in each point of each part."""

        def read(self, question: Question, time_range: TimeRange, parts: Sequence[Part]) -> Reading:
            super().read(question, time_range, parts)
            tallies = [{GroupKey(i): Tally(total=1) for i, _ in enumerate([None, *part.edges])} for part in parts]
            return Reading(tallies, {}, self._now())

    def series(first: timedelta) -> Question:
        edges = (MONDAY - first, *(MONDAY + n * DAY for n in range(8)))
        return Question(Selection(), TimeRange(edges[0], edges[-1]), series=Series(edges))

    store = PointByPoint([replace(WHOLE, generation=1)])
    statistics = Statistics(store, {})
    first, second = statistics.ask(series(2 * HOUR)), statistics.ask(series(HOUR))
    assert store.plans == [
        [Segment(DAYS, WEEK.range), Segment(HOURS, TimeRange(MONDAY - 2 * HOUR, MONDAY))],
        [Segment(HOURS, TimeRange(MONDAY - HOUR, MONDAY))],
    ]
    for answer in (first, second):
        assert {key: tally.total for key, tally in answer.tallies.items()} == {GroupKey(n): 1 for n in range(8)}


def test_a_memory_that_takes_no_tallies_is_no_obstacle() -> None:
    class Full(dict[Part, Mapping[GroupKey, Tally]]):
        def __setitem__(self, part: Part, tallies: Mapping[GroupKey, Tally]) -> None:
            raise ValueError("value too large")

    store = in_generations(1)
    statistics = Statistics(store, Full())
    assert [statistics.ask(CUT).total.total, statistics.ask(CUT).total.total] == [4, 4]
    assert [len(plan) for plan in store.plans] == [4, 4]
