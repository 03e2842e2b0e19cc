"""Compare two sets of predictions: is b better than a, by how much, and is that more than chance?

Each side is a sample of independent predictions. Each side gets exact limits, which hold for any distribution
(`binomial.share_limits`, `binomial.rank_limits`). The limits of both sides are then joined by squaring and adding
their distances from the estimates: Newcombe, "Interval estimation for the difference between independent proportions:
comparison of eleven methods", Stat. Med. 17, 1998, did so for shares; Zou and Donner, "Construction of confidence
limits about effect measures: a general approach", Stat. Med. 27, 2008, showed that it holds in general (MOVER).

Newcombe joined Wilson's limits. Clopper and Pearson's are wider for few predictions, and have to be: with ten
predictions of a new version beside thousands of an old one, Wilson's would find a difference by chance in up to 12 % of
all cases instead of 5 %.

A difference is more than chance if its interval leaves out "no difference", so the two never disagree.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from app.domain.binomial import rank_limits, share_limits
from app.domain.sketch import GAMMA
from app.domain.statistics import Tally

DEFAULT_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A value and its confidence limits; too few predictions leave `low` at 0 or -inf, and `high` at inf."""

    value: float
    low: float
    high: float

    def minus(self, other: Estimate) -> Estimate:
        """Return the difference of two independent estimates, with limits of the same confidence."""
        value = self.value - other.value
        return Estimate(
            value,
            value - math.hypot(self.value - self.low, other.high - other.value),
            value + math.hypot(self.high - self.value, other.value - other.low),
        )


@dataclass(frozen=True)
class Contrast:
    """How b differs from a: the estimate with its limits, and the value that would mean no difference."""

    estimate: Estimate
    none: float

    @property
    def is_bounded(self) -> bool:
        """Whether at least one limit is finite."""
        return self.estimate.low > 0 or self.estimate.high < math.inf

    @property
    def sign(self) -> int:
        """1 if b has more than a, -1 if b has less, 0 if the difference may be chance."""
        return (self.estimate.low > self.none) - (self.estimate.high < self.none)


def success_rates(a: Tally, b: Tally, confidence: float) -> Contrast | None:
    """Return the success rate of b minus that of a (-1 … 1); None if a or b has no predictions."""
    if not (a.total and b.total):
        return None
    return Contrast(_success_rate(b, confidence).minus(_success_rate(a, confidence)), none=0.0)


def _success_rate(tally: Tally, confidence: float) -> Estimate:
    low, high = share_limits(tally.successful, tally.total, confidence)
    return Estimate(tally.successful / tally.total, low, high)


def percentile_ratios(a: Tally, b: Tally, percentiles: Sequence[float], confidence: float) -> list[Contrast | None]:
    """Return each percentile (0 … 100) of b's durations divided by that of a's durations.

    The ratio is None if a or b has no predictions, or if the percentile of a is 0 ms. The true ratio of the logged
    durations is within a factor of sketch.GAMMA of the estimate. The limits are widened by that factor, so they hold
    for the durations themselves and not for their bins. Quantiles are compared by their logarithms.
    """
    if not (a.total and b.total):
        return [None] * len(percentiles)
    sides = zip(_durations(a, percentiles, confidence), _durations(b, percentiles, confidence))
    return [_ratio(x, y) for x, y in sides]


def _durations(tally: Tally, percentiles: Sequence[float], confidence: float) -> list[Estimate]:
    predictions = tally.total
    ranks = [rank_limits(predictions, percentile / 100, confidence) for percentile in percentiles]
    places = [100 * (min(max(rank, 1), predictions) - 1) / max(predictions - 1, 1) for pair in ranks for rank in pair]
    durations = [duration or 0.0 for duration in tally.percentiles([*percentiles, *places])]
    values, limits = durations[: len(ranks)], durations[len(ranks) :]
    return [
        Estimate(value, min(low, value) if first > 0 else 0.0, max(high, value) if last <= predictions else math.inf)
        for value, low, high, (first, last) in zip(values, limits[::2], limits[1::2], ranks)
    ]


def _ratio(a: Estimate, b: Estimate) -> Contrast | None:
    if a.value == 0:
        return None
    if b.value == 0:  # 0 has no logarithm: divide the upper limit of b by the lower limit of a
        return Contrast(Estimate(0.0, 0.0, b.high / a.low * GAMMA if a.low else math.inf), none=1.0)
    ratio = _logarithm(b).minus(_logarithm(a))
    return Contrast(Estimate(_power(ratio.value), _power(ratio.low) / GAMMA, _power(ratio.high) * GAMMA), none=1.0)


def _logarithm(duration: Estimate) -> Estimate:
    low = math.log(duration.low) if duration.low else -math.inf
    return Estimate(math.log(duration.value), low, math.log(duration.high))


def _power(logarithm: float) -> float:
    try:
        return math.exp(logarithm)
    except OverflowError:  # beyond what a double can hold
        return math.inf
