"""Columns of a histogram, and shares at or under a duration, against durations counted in full."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.domain.histogram import MIN_COLUMNS, Columns
from app.domain.sketch import GAMMA, LatencySketch, bin_of, upper_bound, value_of
from app.domain.statistics import Tally

DURATIONS = st.one_of(st.just(0.0), st.floats(0, 1e292), st.floats(0.01, 60_000), st.integers(1, 50).map(float))
SOME = st.lists(DURATIONS, min_size=1, max_size=60)
BOUNDS = [upper_bound(n) for n in range(-20, 20)]


def sketch_of(durations: Sequence[float]) -> LatencySketch:
    return LatencySketch(Counter(map(bin_of, durations)).items())


def tally_of(durations: Sequence[float]) -> Tally:
    return Tally(
        total=len(durations),
        duration_ms_min=min(durations),
        duration_ms_max=max(durations),
        sketch=sketch_of(durations),
    )


@given(SOME, st.lists(DURATIONS, min_size=1, max_size=5))
@example(BOUNDS, BOUNDS)
@example([0.0, 0.0, 1.0], [0.0, 5e-324, 1.0])
@example([5e-324, 1e-300], [5e-324])
def test_the_true_share_at_or_under_a_duration_is_within_its_limits(
    durations: list[float], limits: list[float]
) -> None:
    for limit, share in zip(limits, tally_of(durations).shares_under(limits)):
        true = sum(duration <= limit for duration in durations) / len(durations)
        assert share is not None
        assert 0 <= share.low <= true <= share.high <= 1, (limit, share)
        assert share.low <= share.value <= share.high


@given(SOME, st.sampled_from([0.5, 1.0, 50.0, 700.0]))
def test_only_predictions_within_the_error_of_the_duration_are_in_doubt(durations: list[float], limit: float) -> None:
    share = sketch_of(durations).share_under(limit)
    near = sum(limit / GAMMA / (1 + 1e-9) < duration < limit * GAMMA * (1 + 1e-9) for duration in durations)
    assert share is not None and share.high - share.low <= near / len(durations) + 1e-9


def test_a_duration_beyond_all_predictions_has_a_share_without_error() -> None:
    none, all_of_them = tally_of([10.0, 20.0]).shares_under([9.99, 20.0])
    assert none is not None and all_of_them is not None
    assert [tuple(none), tuple(all_of_them)] == [(0, 0, 0), (1, 1, 1)]
    assert Tally().shares_under([1.0]) == [None] and LatencySketch().share_under(1.0) is None


def test_predictions_in_the_bin_of_the_duration_are_divided_evenly() -> None:
    low, high = upper_bound(bin_of(100.0) - 1), upper_bound(bin_of(100.0))
    share = sketch_of([1.0, 100.0, 100.0, 1000.0]).share_under((low + high) / 2)
    assert share is not None and share == pytest.approx((0.5, 0.25, 0.75))


@given(SOME, st.integers(MIN_COLUMNS, 60))
@example([0.0, 5e-324, 1e292], MIN_COLUMNS)
@example([0.0, 0.99, 1.01], MIN_COLUMNS)
def test_no_prediction_is_lost_between_columns_and_there_are_not_too_many(
    durations: list[float], max_columns: int
) -> None:
    sketch = sketch_of(durations)
    columns = Columns.of(sketch, max_columns)
    counts = columns.counts(sketch)
    assert len(columns) == len(columns.bounds) == len(counts) <= max_columns
    assert sum(counts) == len(durations)
    assert all(a.to_ms == b.from_ms for a, b in pairwise(columns.bounds[columns.has_zero :]))
    for column, count in zip(columns.bounds, counts):
        fell = sum(column.from_ms * (1 - 1e-9) <= duration <= column.to_ms * (1 + 1e-9) for duration in durations)
        assert fell >= count


@given(SOME, SOME)
def test_the_parts_of_a_sketch_fill_the_columns_of_the_whole(some: list[float], others: list[float]) -> None:
    columns = Columns.of(sketch_of(some + others), 20)
    parts = [columns.counts(sketch_of(part)) for part in (some, others)]
    assert [sum(pair) for pair in zip(*parts)] == columns.counts(sketch_of(some + others))


def test_columns_are_as_fine_as_they_may_be() -> None:
    sketch = sketch_of([value_of(n) for n in range(100, 140)])
    assert len(Columns.of(sketch, 40)) == 40
    assert Columns.of(sketch, 40).width == 1
    assert Columns.of(sketch, 39).width == 2


def test_nothing_has_no_columns() -> None:
    assert len(Columns.of(LatencySketch(), 50)) == 0
    assert Columns.of(LatencySketch(), 50).bounds == []
