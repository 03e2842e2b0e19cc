"""The statistics of sets of predictions add up."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.domain.sketch import RELATIVE_ERROR, LatencySketch, bin_of
from app.domain.statistics import Tally

PREDICTIONS = st.lists(st.tuples(st.floats(0, 1e6), st.booleans(), st.booleans()), max_size=30)


def nanoseconds(duration_ms: float) -> int:
    return round(duration_ms * 1e6)


def tally_of(predictions: list[tuple[float, bool, bool]]) -> Tally:
    """The tally of predictions given as (milliseconds, succeeded, read from a raw row)."""
    durations = [duration for duration, _, _ in predictions]
    return Tally(
        total=len(predictions),
        successful=sum(succeeded for _, succeeded, _ in predictions),
        duration_ns_sum=sum(map(nanoseconds, durations)),
        duration_ms_min=min(durations, default=None),
        duration_ms_max=max(durations, default=None),
        read_raw=sum(raw for _, _, raw in predictions),
        sketch=LatencySketch((bin_of(duration), 1) for duration in durations),
    )


@given(PREDICTIONS, PREDICTIONS)
def test_a_merged_tally_is_the_tally_of_all_together(
    a: list[tuple[float, bool, bool]], b: list[tuple[float, bool, bool]]
) -> None:
    merged, whole = tally_of(a), tally_of(a + b)
    merged.merge(tally_of(b))
    for name in ("total", "successful", "failed", "read_raw", "duration_ms_min", "duration_ms_max", "success_rate"):
        assert getattr(merged, name) == getattr(whole, name), name
    assert merged.duration_ns_sum == whole.duration_ns_sum
    assert merged.average_duration_ms == whole.average_duration_ms
    assert merged.percentiles([0, 12.5, 50, 99.9, 100]) == whole.percentiles([0, 12.5, 50, 99.9, 100])


def test_a_tally_of_nothing_has_zeros_and_nulls() -> None:
    nothing = Tally()
    assert (nothing.total, nothing.successful, nothing.failed) == (0, 0, 0)
    assert nothing.success_rate is nothing.average_duration_ms is None
    assert nothing.percentiles([0, 50, 100]) == [None, None, None]


def test_merging_nothing_changes_nothing() -> None:
    tally = tally_of([(5.0, True, False)])
    tally.merge(Tally())
    assert tally == tally_of([(5.0, True, False)]) or tally.percentiles([50]) == tally_of(
        [(5.0, True, False)]
    ).percentiles([50])
    assert (tally.duration_ms_min, tally.duration_ms_max) == (5.0, 5.0)


def test_tallies_do_not_share_a_sketch() -> None:
    first, second = Tally(), Tally()
    first.merge(tally_of([(5.0, True, False)]))
    assert second.sketch.counts == []


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=30))
@example([900232.0, 900233.0])  # the value that stands for their bin is below both
def test_the_extremes_are_exact_and_nothing_lies_beyond_them(durations: list[float]) -> None:
    low, *inner, high = tally_of([(duration, True, False) for duration in durations]).percentiles([0, 1, 50, 99, 100])
    assert (low, high) == (min(durations), max(durations))
    assert low is not None and high is not None
    assert all(estimate is not None and low <= estimate <= high for estimate in inner)


@pytest.mark.parametrize(("successful", "rate"), [(0, 0.0), (1, 0.25), (4, 1.0)])
def test_the_success_rate_is_a_share(successful: int, rate: float) -> None:
    assert Tally(total=4, successful=successful).success_rate == rate


def test_the_average_is_the_sum_over_the_count() -> None:
    assert Tally(total=4, duration_ns_sum=530_400_000).average_duration_ms == 530.4 / 4


def test_ten_times_the_same_duration_does_not_average_below_it() -> None:
    assert sum([0.1] * 10) / 10 < 0.1
    tenth = Tally(total=1, duration_ns_sum=100_000, duration_ms_min=0.1, duration_ms_max=0.1)
    assert sum([tenth] * 10, Tally()).average_duration_ms == 0.1


def test_durations_below_half_a_nanosecond_average_no_lower_than_the_shortest() -> None:
    assert Tally(total=2, duration_ns_sum=0, duration_ms_min=1e-7, duration_ms_max=2e-7).average_duration_ms == 1e-7


@given(st.lists(st.floats(0, 1e292), min_size=1, max_size=30))
def test_an_average_is_never_beyond_the_extremes(durations: list[float]) -> None:
    predictions = [
        Tally(total=1, duration_ns_sum=int(x) * 10**6, duration_ms_min=x, duration_ms_max=x) for x in durations
    ]
    average = sum(predictions, Tally()).average_duration_ms
    assert average is not None
    assert min(durations) <= average <= max(durations)


def test_one_duration_is_every_percentile_exactly() -> None:
    assert tally_of([(123.4, True, False)] * 3).percentiles([0, 50, 99, 100]) == [123.4] * 4
    assert RELATIVE_ERROR == 0.01
