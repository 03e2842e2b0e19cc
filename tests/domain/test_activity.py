"""The usual gap between predictions, and silence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.activity import LOOK_BACK, RECENT_BUCKETS, Activity, is_silent, usual_gap
from app.domain.cover import DAYS
from app.domain.instants import DAY, HOUR, MINUTE, floor

NOW = datetime(2025, 6, 9, 12, 34, 56, tzinfo=timezone.utc)
SECOND = timedelta(seconds=1)


def every(gap: timedelta, length: timedelta, until: datetime = NOW) -> list[datetime]:
    return [until - i * gap for i in range(int(length / gap) + 1)]


def nightly(job: timedelta, nights: int = 20) -> list[datetime]:
    """A job that calls ten times a minute for so long, every night from two o'clock on."""
    starts = [floor(NOW, DAY) + 2 * HOUR - night * DAY for night in range(nights)]
    return [prediction for start in starts for prediction in every(6 * SECOND, job, start + job)]


def gap_of(predictions: Iterable[datetime], now: datetime = NOW) -> timedelta | None:
    """As the aggregates would show these predictions."""
    activities = []
    for level, back in LOOK_BACK.items():
        since = floor(now - back, level.width) if back else None
        seen = [prediction for prediction in predictions if since is None or prediction >= since]
        activities.append(
            Activity(level, Counter(int(floor(prediction, level.width).timestamp()) for prediction in seen))
        )
    return usual_gap(activities)


@pytest.mark.parametrize(
    ("gap", "length"),
    [
        (0.1 * SECOND, HOUR),
        (SECOND, 5 * MINUTE),
        (SECOND, DAY),
        (20 * SECOND, HOUR),
        (20 * MINUTE, 20 * DAY),
        (5 * HOUR, 20 * DAY),
        (DAY, 30 * DAY),
        (7 * DAY, 200 * DAY),
        (30 * DAY, 400 * DAY),
    ],
)
def test_predictions_at_equal_distances_have_that_distance_as_their_gap(gap: timedelta, length: timedelta) -> None:
    found = gap_of(every(gap, length))
    assert found is not None
    assert 0.6 * gap <= found <= 1.7 * gap


@given(st.integers(0, 10**6), st.floats(0.3, 10**5))
def test_predictions_at_random_have_a_gap_about_as_long_as_theirs_on_average(seed: int, mean: float) -> None:
    random, prediction = Random(seed), NOW
    predictions: list[datetime] = []
    while len(predictions) < 400:
        prediction -= timedelta(seconds=random.expovariate(1 / mean))
        predictions.append(prediction)
    found = gap_of(predictions)
    assert found is not None
    assert 0.4 * mean <= found.total_seconds() <= 5 * mean


@pytest.mark.parametrize("job", [SECOND, 10 * MINUTE, HOUR, 2 * HOUR])
def test_a_nightly_job_counts_as_one_burst_a_night(job: timedelta) -> None:
    found = gap_of(nightly(job))
    assert found is not None
    assert 20 * HOUR <= found <= 25 * HOUR


def test_an_hourly_job_counts_as_one_burst_an_hour() -> None:
    predictions = [prediction for hour in range(100) for prediction in every(SECOND / 5, 2 * MINUTE, NOW - hour * HOUR)]
    found = gap_of(predictions)
    assert found is not None
    assert 55 * MINUTE <= found <= 65 * MINUTE


def test_a_trial_long_before_a_model_is_in_use_does_not_count() -> None:
    for trial in (21 * DAY, 20 * HOUR):
        for in_use in (5 * MINUTE, 6 * HOUR):
            found = gap_of([NOW - trial, *every(SECOND, in_use)])
            assert found is not None
            assert found < 2 * SECOND


def test_two_predictions_have_the_gap_between_them() -> None:
    for gap in (10 * MINUTE, 5 * HOUR, 3 * DAY, 21 * DAY):
        found = gap_of([NOW, NOW - gap])
        assert found is not None
        assert 0.9 * gap <= found <= 1.1 * gap


def test_what_counts_is_how_often_a_model_is_called_lately() -> None:
    once_a_month = every(30 * DAY, 900 * DAY, NOW - 30 * DAY)
    found = gap_of([*once_a_month, *every(20 * MINUTE, (RECENT_BUCKETS + 1) * DAY)])
    assert found is not None
    assert found < HOUR


def test_a_model_that_is_called_no_more_keeps_a_gap() -> None:
    for ago in (2 * HOUR, 2 * DAY, 50 * DAY):
        found = gap_of(every(10 * SECOND, 5 * DAY, NOW - ago))
        assert found is not None
        assert found < 20 * SECOND


def test_a_single_prediction_has_no_gap() -> None:
    assert gap_of([NOW]) is None
    assert gap_of([NOW - 400 * DAY]) is None


@given(st.lists(st.integers(0, 40 * 86_400), min_size=2, max_size=60))
def test_there_is_a_gap_as_soon_as_there_are_two_predictions_and_it_is_no_longer_than_their_longest(
    ages: list[int],
) -> None:
    predictions = [NOW - timedelta(seconds=age) for age in ages]
    longest = max(later - earlier for earlier, later in pairwise(sorted(predictions)))
    found = gap_of(predictions)
    assert found is not None
    assert timedelta() < found <= max(2 * longest, DAY / 2)


@pytest.mark.parametrize(
    ("gap", "ago", "silent"),
    [
        (SECOND, 59 * SECOND, False),
        (SECOND, 61 * SECOND, True),
        (MINUTE, 9 * MINUTE, False),
        (MINUTE, 11 * MINUTE, True),
        (DAY, HOUR, False),
        (DAY, 9 * DAY, False),
        (DAY, 11 * DAY, True),
        (SECOND, -5 * MINUTE, False),
        (None, 400 * DAY, None),
    ],
)
def test_silence_is_ten_gaps_without_a_prediction_and_a_minute_at_least(
    gap: timedelta | None, ago: timedelta, silent: bool | None
) -> None:
    assert is_silent(NOW - ago, gap, NOW) is silent


@given(st.lists(st.integers(2, 60), min_size=2, max_size=12))
def test_the_usual_gap_is_the_shortest_that_three_of_four_pauses_do_not_exceed(
    pauses: list[int],
) -> None:
    days = [0]
    for pause in pauses:
        days.append(days[-1] + pause)
    gap = usual_gap([Activity(DAYS, Counter(day * 86_400 for day in days))])
    assert gap is not None
    no_longer = sum(pause * DAY <= gap for pause in pauses)
    shorter = sum(pause * DAY < gap for pause in pauses)
    assert 4 * no_longer >= 3 * len(pauses) > 4 * shorter
