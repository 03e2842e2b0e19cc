"""Confidence limits, and whether a difference is more than chance: held against SciPy and against simulations."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from app.domain import comparison
from app.domain.binomial import rank_limits, share_limits, tail
from app.domain.comparison import Estimate, percentile_ratios, success_rates
from app.domain.sketch import GAMMA, LatencySketch, bin_of
from app.domain.statistics import Tally

SIZES = (1, 2, 3, 7, 20, 30, 31, 50, 99, 1000, 123_456, 10**7, 10**9)
CONFIDENCES = (0.55, 0.8, 0.9, 0.95, 0.99)
PERCENTILES = (0.0, 1.0, 50.0, 90.0, 95.0, 99.0, 100.0)
durations = st.lists(st.floats(0.01, 1e6), min_size=1, max_size=60)
confidences = st.floats(0.5, 0.999)
outcomes = st.tuples(st.integers(0, 10**6), st.integers(1, 10**6)).map(lambda pair: (min(pair), pair[1]))


def tally(durations: Sequence[float] | NDArray[np.float64], failed: int = 0) -> Tally:
    sketch = LatencySketch()
    for duration in durations:
        sketch.add([(bin_of(duration), 1)])
    total = len(durations)
    return Tally(total, total - failed, round(sum(durations) * 1e6), min(durations), max(durations), sketch=sketch)


@pytest.fixture(autouse=True, scope="module")
def limits_once() -> Iterator[None]:
    """Compute the limits of the same numbers once: the simulations ask for them thousands of times."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comparison, "share_limits", cache(share_limits))
        patch.setattr(comparison, "rank_limits", cache(rank_limits))
        yield


def rates(successful: int, total: int) -> Tally:
    return Tally(total, successful)


def differs(a: Tally, b: Tally, confidence: float) -> bool:
    contrast = success_rates(a, b, confidence)
    assert contrast is not None
    return contrast.sign != 0


def counts(total: int) -> list[int]:
    picked = {0, 1, 2, 3, total // 100, total // 10, total // 3, total // 2, total - 3, total - 2, total - 1, total}
    return sorted(count for count in picked if 0 <= count <= total)


@pytest.mark.parametrize("number", SIZES)
@pytest.mark.parametrize("confidence", CONFIDENCES)
def test_share_limits_are_those_of_clopper_and_pearson(number: int, confidence: float) -> None:
    error = (1 - confidence) / 2
    for count in counts(number):
        low, high = share_limits(count, number, confidence)
        assert low <= count / number <= high
        # The binomial tail at each limit is the error, to two percent of it.
        assert low == 0 if count == 0 else math.isclose(stats.binom.sf(count - 1, number, low), error, rel_tol=0.02)
        assert high == 1 if count == number else math.isclose(stats.binom.cdf(count, number, high), error, rel_tol=0.02)


@given(st.integers(1, 2**70), st.floats(0, 1), st.integers(0, 3), confidences)
@example(5706897964723824, 0.0, 1, 0.5)
@example(173960769529937952768, 0.0, 2, 0.95)
def test_any_number_of_trials_has_limits(trials: int, share: float, more: int, confidence: float) -> None:
    successes = min(int(trials * share) + more, trials)
    for count in (successes, trials - successes):
        low, high = share_limits(count, trials, confidence)
        assert 0 <= low <= high <= 1


@pytest.mark.parametrize("predictions", SIZES)
@pytest.mark.parametrize("share", [1e-6, 0.01, 0.3, 0.5, 0.95, 0.999])
def test_a_tail_is_that_of_the_binomial_distribution(predictions: int, share: float) -> None:
    for error in (0.005, 0.025, 0.1, 0.5, 0.9):
        count = int(stats.binom.isf(error, predictions, share))
        true = stats.binom.sf(count - 1, predictions, share)
        if true >= 0.005:
            assert math.isclose(tail(count, predictions, share), true, rel_tol=0.02)


@given(st.integers(1, 500), st.floats(0, 1), st.integers(-2, 502))
def test_a_tail_is_a_probability_that_falls_as_the_count_rises(predictions: int, share: float, count: int) -> None:
    assert 0 <= tail(count + 1, predictions, share) <= tail(count, predictions, share) + 1e-4
    assert tail(count, predictions, share) <= 1


@pytest.mark.parametrize("predictions", [2, 9, 31, 200, 1000])
@pytest.mark.parametrize("fraction", [0.01, 0.25, 0.5, 0.9, 0.99])
def test_rank_limits_are_the_order_statistics_that_scipy_chooses(predictions: int, fraction: float) -> None:
    ranks = np.arange(1, predictions + 1)
    for confidence in CONFIDENCES:
        theirs = stats.quantile_test(ranks, p=fraction).confidence_interval(confidence)
        low, high = rank_limits(predictions, fraction, confidence)
        assert low == (0 if math.isnan(theirs.low) else theirs.low)
        assert high == (predictions + 1 if math.isnan(theirs.high) else theirs.high)


def test_squaring_and_adding_wilson_limits_gives_the_figures_that_newcombe_published() -> None:
    # Table II of the paper, method 10: 56 of 70 against 48 of 80, and 9 of 10 against 3 of 10.
    for a, b, low, high in [((48, 80), (56, 70), 0.0524, 0.3339), ((3, 10), (9, 10), 0.1705, 0.8090)]:
        sides = []
        for count, predictions in (a, b):
            wilson = stats.binomtest(count, predictions).proportion_ci(0.95, method="wilson")
            sides.append(Estimate(count / predictions, wilson.low, wilson.high))
        difference = sides[1].minus(sides[0])
        assert (round(difference.low, 4), round(difference.high, 4)) == (low, high)


@pytest.mark.parametrize(
    ("predictions_a", "predictions_b"), [(3, 3), (10, 10), (50, 50), (10, 150), (2, 150), (100, 1)]
)
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
def test_equal_success_rates_are_found_different_no_more_often_than_is_meant(
    predictions_a: int, predictions_b: int, confidence: float
) -> None:
    """Every outcome with its probability, for rates from one in a thousand to one half."""
    found = np.array(
        [
            [differs(rates(i, predictions_a), rates(j, predictions_b), confidence) for j in range(predictions_b + 1)]
            for i in range(predictions_a + 1)
        ]
    )
    for rate in np.geomspace(0.001, 0.5, 25):
        a, b = (
            stats.binom.pmf(np.arange(predictions + 1), predictions, rate)
            for predictions in (predictions_a, predictions_b)
        )
        assert a @ found @ b <= 1 - confidence


def test_a_clear_difference_of_success_rates_is_found() -> None:
    contrast = success_rates(rates(9_900, 10_000), rates(9_800, 10_000), 0.95)
    assert contrast is not None
    assert contrast.estimate.value == pytest.approx(-0.01)
    assert contrast.sign == -1
    assert contrast.estimate.high < 0 < contrast.estimate.high + 0.01


@settings(deadline=None)
@given(outcomes, outcomes, confidences)
def test_what_b_has_more_than_a_is_what_a_has_less_than_b(
    a: tuple[int, int], b: tuple[int, int], confidence: float
) -> None:
    there, back = (success_rates(x, y, confidence) for x, y in [(rates(*a), rates(*b)), (rates(*b), rates(*a))])
    assert there is not None
    assert back is not None
    assert there.sign == -back.sign
    assert there.estimate.low == pytest.approx(-back.estimate.high)
    assert -1 <= there.estimate.low <= there.estimate.value <= there.estimate.high <= 1


@settings(deadline=None)
@given(outcomes, outcomes, confidences)
def test_more_confidence_gives_a_wider_interval_and_never_more_differences(
    a: tuple[int, int], b: tuple[int, int], confidence: float
) -> None:
    sure = success_rates(rates(*a), rates(*b), confidence)
    surer = success_rates(rates(*a), rates(*b), (1 + confidence) / 2)
    assert sure is not None
    assert surer is not None
    assert surer.estimate.low <= sure.estimate.low
    assert surer.estimate.high >= sure.estimate.high
    assert surer.sign in (sure.sign, 0)


@settings(deadline=None)
@given(durations, durations, confidences)
def test_a_ratio_is_as_close_to_that_of_the_logged_durations_as_it_says(
    a: list[float], b: list[float], confidence: float
) -> None:
    for percentile, contrast in zip(PERCENTILES, percentile_ratios(tally(a), tally(b), PERCENTILES, confidence)):
        true = np.percentile(b, percentile) / np.percentile(a, percentile)
        assert contrast is not None
        assert true / GAMMA * (1 - 1e-9) <= contrast.estimate.value <= true * GAMMA * (1 + 1e-9)
        assert contrast.estimate.low <= true * (1 + 1e-9)
        assert contrast.estimate.high >= true * (1 - 1e-9)


@settings(deadline=None)
@given(durations, durations, confidences)
def test_b_is_slower_than_a_if_a_is_faster_than_b(a: list[float], b: list[float], confidence: float) -> None:
    there = percentile_ratios(tally(a), tally(b), PERCENTILES, confidence)
    back = percentile_ratios(tally(b), tally(a), PERCENTILES, confidence)
    for x, y in zip(there, back):
        assert x is not None
        assert y is not None
        assert x.sign == -y.sign
        assert x.estimate.low * y.estimate.high == pytest.approx(1) or x.estimate.low == 0


@pytest.mark.parametrize(("predictions_a", "predictions_b"), [(20, 20), (30, 1000), (400, 400)])
def test_equal_durations_are_found_different_no_more_often_than_is_meant(
    predictions_a: int, predictions_b: int
) -> None:
    random = np.random.default_rng(20250609)
    found = np.zeros(len(PERCENTILES))
    rounds = 300
    for _ in range(rounds):
        a, b = random.lognormal(3, 1, predictions_a), random.lognormal(3, 1, predictions_b)
        contrasts = percentile_ratios(tally(a), tally(b), PERCENTILES, 0.9)
        found += [contrast is not None and contrast.sign != 0 for contrast in contrasts]
    assert max(found) / rounds <= 0.1


def test_the_interval_of_a_ratio_mostly_holds_the_true_one() -> None:
    random = np.random.default_rng(20250609)
    rounds, held = 300, 0
    for _ in range(rounds):
        a, b = random.exponential(10, 200), random.exponential(13, 500)
        (contrast,) = percentile_ratios(tally(a), tally(b), [90], 0.9)
        assert contrast is not None
        held += contrast.estimate.low <= 1.3 <= contrast.estimate.high
    assert held / rounds >= 0.9


def test_a_clear_difference_of_durations_is_found_at_each_percentile() -> None:
    random = np.random.default_rng(20250609)
    a, b = random.lognormal(3, 0.5, 3000), random.lognormal(3.3, 0.5, 3000)
    contrasts = percentile_ratios(tally(a), tally(b), [50, 90, 99], 0.95)
    assert [contrast and contrast.sign for contrast in contrasts] == [1, 1, 1]


def test_a_difference_within_the_error_of_the_percentiles_is_not_more_than_chance() -> None:
    a, b = [100.0] * 10**5, [101.9] * 10**5
    (contrast,) = percentile_ratios(tally(a), tally(b), [50], 0.95)
    assert contrast is not None
    assert contrast.sign == 0


def test_a_side_without_predictions_leaves_nothing_to_compare() -> None:
    for a, b in [(Tally(), tally([1.0])), (tally([1.0]), Tally()), (Tally(), Tally())]:
        assert success_rates(a, b, 0.95) is None
        assert percentile_ratios(a, b, [50, 99], 0.95) == [None, None]


def test_a_single_prediction_on_each_side_says_nothing_about_durations() -> None:
    (contrast,) = percentile_ratios(tally([1.0]), tally([50.0]), [50], 0.95)
    assert contrast is not None
    assert not contrast.is_bounded
    assert contrast.estimate.value == pytest.approx(50, rel=0.03)


def test_the_extremes_of_a_sample_say_nothing_sure_about_those_of_what_it_is_a_sample_of() -> None:
    a, b = [float(i + 1) for i in range(2000)], [float(i + 5) for i in range(2000)]
    for contrast in percentile_ratios(tally(a), tally(b), [0, 100], 0.95):
        assert contrast is not None
        assert not contrast.is_bounded


def test_there_is_no_ratio_to_a_duration_of_zero() -> None:
    zeros, some = tally([0.0] * 100), tally([5.0] * 100)
    assert percentile_ratios(zeros, some, [50], 0.95) == [None]
    (contrast,) = percentile_ratios(some, zeros, [50], 0.95)
    assert contrast is not None
    assert contrast.estimate.value == 0
    assert contrast.sign == -1


def test_durations_of_any_size_are_compared() -> None:
    tiny, huge = tally([5e-324, 1e-300, 1e-290] * 50), tally([1e280, 1e290, 1e292] * 50)
    for a, b, sign in [(tiny, huge, 1), (huge, tiny, -1)]:
        (contrast,) = percentile_ratios(a, b, [50], 0.95)
        assert contrast is not None
        assert contrast.sign == sign
