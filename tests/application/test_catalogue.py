"""Wherever the watermark stands, the first prediction of a model and the last one are found to the microsecond."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TypeVar

from hypothesis import example, given
from hypothesis import strategies as st

from app.application.catalogue import Catalogue
from app.application.catalogue_places import CatalogueReader, Place
from app.application.statistics import GroupKey, Part, Question, Reading, Statistics
from app.domain.activity import Activity
from app.domain.cover import RAW, Level, Materialized, Segment
from app.domain.instants import DAY, HOUR, MINUTE, TimeRange, floor
from app.domain.statistics import Selection, Tally

T = TypeVar("T")
NOW = datetime(2026, 6, 10, 17, 59, 36, tzinfo=timezone.utc)
KEY = GroupKey(0, "price", "1")
AGES = st.one_of(*(st.timedeltas(timedelta(), longest) for longest in (3 * MINUTE, 2 * HOUR, 3 * DAY, 400 * DAY)))


@dataclass
class FakeLog:
    """One model's predictions; a bucket is there if it is whole at the watermark and its rows did not change since."""

    predictions: Sequence[datetime]
    materialized: Materialized

    def within_snapshot(self, work: Callable[[CatalogueReader], T]) -> T:
        return work(self)

    def state(self, time_range: TimeRange) -> Materialized:
        return self.materialized

    def read(self, question: Question, time_range: TimeRange, parts: Sequence[Part]) -> Reading:
        totals = [len(self._within(part.segment.range)) for part in parts]
        return Reading([{KEY: Tally(total=total)} if total else {} for total in totals], {}, self.materialized)

    def count_groups(self, question: Question, segments: Sequence[Segment] | None, limit: int) -> int:
        raise AssertionError("only a question with a limit counts its groups")

    def names(
        self, model_names: Sequence[str], search: str | None, after: tuple[str, str] | None, limit: int
    ) -> Sequence[GroupKey]:
        return [KEY]

    def activity(self, selection: Selection, level: Level, segments: Sequence[Segment]) -> Mapping[GroupKey, Activity]:
        predictions = [prediction for segment in segments for prediction in self._within(segment.range)]
        buckets = Counter(int(floor(prediction, level.width).timestamp()) for prediction in predictions)
        return {KEY: Activity(level, buckets)} if buckets else {}

    def look_up(self, level: Level, places: Sequence[Place]) -> Sequence[datetime | None]:
        return [self._look_up(level, place) for place in places]

    def _look_up(self, level: Level, place: Place) -> datetime | None:
        found = (
            self.predictions if level is RAW else {floor(prediction, level.width) for prediction in self.predictions}
        )
        found = [at for at in found if place.range.start <= at < place.range.end]
        found = [at for at in found if level is RAW or self._is_there(TimeRange(at, at + level.width))]
        return (max if place.is_last else min)(found, default=None)

    def _is_there(self, bucket: TimeRange) -> bool:
        changed = any(bucket.overlaps(change) for change in self.materialized.invalidations)
        return bucket.end <= self.materialized.up_to and not changed

    def _within(self, time_range: TimeRange) -> list[datetime]:
        return [prediction for prediction in self.predictions if time_range.start <= prediction < time_range.end]


@example([timedelta(minutes=58), timedelta(minutes=2)], timedelta(minutes=1), [])
@example([timedelta(hours=24), timedelta(hours=25)], timedelta(hours=24), [])
@given(st.lists(AGES, min_size=1, max_size=8), AGES, st.lists(AGES, max_size=3))
def test_the_first_and_the_last_prediction_are_found_wherever_the_watermark_is(
    predictions: list[timedelta], lag: timedelta, changed: list[timedelta]
) -> None:
    minutes = [floor(NOW - age, MINUTE) for age in changed]
    state = Materialized(
        floor(NOW - lag, MINUTE), tuple(TimeRange(minute, minute + MINUTE) for minute in minutes), generation=1
    )
    log = FakeLog([NOW - age for age in predictions], state)
    catalogue = Catalogue(log, Statistics(log, {}))
    for _ in range(2):  # looked up, and remembered
        ((entry,), more) = catalogue.page(["price"], None, 10, NOW)
        assert (entry.first_seen.range.start, entry.first_seen.accuracy) == (min(log.predictions), timedelta())
        assert (entry.last_seen.range.start, entry.last_seen.accuracy) == (max(log.predictions), timedelta())
        assert entry.all_time.total == len(predictions) and not more


def test_after_a_minute_places_are_looked_up_again() -> None:
    class Counting(FakeLog):
        looked_up = 0

        def look_up(self, level: Level, places: Sequence[Place]) -> Sequence[datetime | None]:
            self.looked_up += len(places)
            return super().look_up(level, places)

    log, clock = Counting([NOW - 10 * DAY], Materialized(floor(NOW, MINUTE), generation=1)), [100.0]
    catalogue = Catalogue(log, Statistics(log, {}), lambda: clock[0])
    counts = []
    for clock[0] in (100.0, 159.0, 161.0):
        catalogue.page(["price"], None, 10, NOW)
        counts.append(log.looked_up)
    assert counts[0] == counts[1] < counts[2]
