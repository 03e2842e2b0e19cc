"""The latency sketch against quantiles counted in full."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.domain.sketch import GAMMA, RELATIVE_ERROR, ZERO_BIN, LatencySketch, bin_of, value_of

# Below the smallest normal double the spacing of the doubles themselves is coarser than 1 %.
SMALLEST_NORMAL = 2.2250738585072014e-308
SPACING_BELOW_IT = 5e-324
DURATIONS = st.one_of(st.just(0.0), st.floats(SMALLEST_NORMAL, 1e292), st.floats(0.01, 60_000), st.integers(1, 50))
FRACTIONS = st.floats(0, 1)


def sketch_of(durations: Sequence[float]) -> LatencySketch:
    return LatencySketch(Counter(map(bin_of, durations)).items())


def percentile_cont(durations: Sequence[float], fraction: float) -> float:
    """What PostgreSQL's function of this name says: between the closest ranks it interpolates."""
    ordered = sorted(durations)
    position = fraction * (len(ordered) - 1)
    below = math.floor(position)
    share = position - below
    return ordered[below] + (ordered[below + 1] - ordered[below]) * share if share else ordered[below]


def within_the_bound(estimate: float | None, true: float) -> bool:
    """Whether the relative error is kept, but for the rounding of doubles: of both numbers, and of their product."""
    return estimate is not None and abs(estimate - true) <= true * (RELATIVE_ERROR + 1e-9) + 2 * SPACING_BELOW_IT


@given(st.lists(DURATIONS, min_size=1, max_size=60), st.lists(FRACTIONS, min_size=1, max_size=5))
@example([1e292] * 3, [0.0, 0.37, 1.0])
@example([0.0, 0.0, 1.0], [0.5, 0.75])
@example([0.0, 1.0, 1.0, 3.9637411249006326e-31], [1.6419556000463156e-292])  # interpolated to a subnormal double
@example([GAMMA**n for n in range(-20, 20)], [n / 40 for n in range(41)])
def test_every_quantile_is_within_one_percent_of_the_true_one(durations: list[float], fractions: list[float]) -> None:
    for fraction, estimate in zip(fractions, sketch_of(durations).quantiles(fractions)):
        assert within_the_bound(estimate, percentile_cont(durations, fraction)), (fraction, estimate)


@given(DURATIONS)
def test_a_bin_stands_for_a_value_within_one_percent_of_all_that_fall_into_it(duration: float) -> None:
    assert within_the_bound(value_of(bin_of(duration)), duration)


@given(st.lists(DURATIONS, max_size=40), st.lists(DURATIONS, max_size=40), st.lists(FRACTIONS, max_size=3))
def test_a_merged_sketch_is_the_sketch_of_all_together(a: list[float], b: list[float], fractions: list[float]) -> None:
    merged = sketch_of(a)
    merged.merge(sketch_of(b))
    assert merged.quantiles(fractions) == sketch_of(a + b).quantiles(fractions)
    assert sum(count for _, count in merged.counts) == len(a) + len(b)


@pytest.mark.parametrize("duration", [0.0, 5e-324, 1e-9, 0.35, 1.0, 124.0, 1e292])
def test_one_duration_alone_is_every_quantile(duration: float) -> None:
    for estimate in sketch_of([duration]).quantiles([0, 0.5, 0.999, 1]):
        assert within_the_bound(estimate, duration), estimate


def test_zero_has_a_bin_of_its_own_below_all_others() -> None:
    assert bin_of(0.0) == bin_of(-0.0) == ZERO_BIN < bin_of(5e-324)
    assert value_of(ZERO_BIN) == 0


def test_an_empty_sketch_has_no_quantiles() -> None:
    assert LatencySketch().quantiles([0, 0.5, 1]) == [None, None, None]
    assert LatencySketch().counts == []


def test_bins_that_were_emptied_do_not_count() -> None:
    sketch = LatencySketch([(bin_of(1.0), 2), (bin_of(1000.0), 1), (bin_of(1000.0), -1)])
    assert sketch.quantiles([1.0]) == sketch_of([1.0, 1.0]).quantiles([1.0])


def test_a_quantile_is_not_that_of_another_thread_that_asks_at_the_same_time() -> None:
    sketch = sketch_of([1, 2, 300])

    class Interrupted(list[float]):
        """Fractions whose reader is interrupted by another one."""

        def __iter__(self) -> Iterator[float]:
            sketch.quantiles([1.0])
            return super().__iter__()

    (before,) = sketch.quantiles([0.0])
    assert sketch.quantiles(Interrupted([0.0])) == [before]


@given(st.integers(2**52, 2**70), st.lists(FRACTIONS, max_size=3))
def test_any_number_of_predictions_has_quantiles(count: int, fractions: list[float]) -> None:
    for estimate in LatencySketch([(bin_of(5), count)]).quantiles([*fractions, 1.0]):
        assert within_the_bound(estimate, 5)
