"""Estimate a share from a count of independent trials.

Everything rests on one probability, the tail of the binomial distribution. It is exact for a few trials; for more
it is the normal approximation of Peizer and Pratt ("A normal approximation for binomial, F, beta, and other common,
related tail probabilities, I", J. Am. Stat. Assoc. 63, 1968), which costs the same for a hundred trials and for a
billion. Tails of 0.5 % and more are within two percent of the exact ones.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from statistics import NormalDist

FEW_TRIALS = 30
_NORMAL = NormalDist()
# Halving so often takes an interval of length one to the precision of a double near zero.
_HALVINGS = 70


def tail(count: int, trials: int, share: float) -> float:
    """Return the probability of at least `count` successes in `trials`, each with the probability `share`."""
    if count <= 0 or share >= 1:
        return float(count <= trials)
    if count > trials or share <= 0:
        return 0.0
    if trials <= FEW_TRIALS:
        return sum(math.comb(trials, k) * share**k * (1 - share) ** (trials - k) for k in range(count, trials + 1))
    if count == 1:
        return -math.expm1(trials * math.log1p(-share))
    if count == trials:
        return share**trials
    return _NORMAL.cdf(-_peizer_pratt(count - 1, trials, share))


def _peizer_pratt(count: int, trials: int, share: float) -> float:
    """Return the standard normal quantile whose probability is close to that of at most `count`."""
    rest = trials - count
    other = 1 - share
    distance = count + 2 / 3 - (trials + 1 / 3) * share
    distance += 0.02 * (other / (count + 1) - share / rest + (other - 0.5) / (trials + 1))
    above, below = count + 0.5, rest - 0.5
    mean, deviation = trials * share, math.sqrt(trials * share * other)
    skew = above - mean
    if abs(skew) < 1e-6 * deviation:
        return distance / deviation
    deviance = above * _log_ratio(above, mean, skew) + below * _log_ratio(below, trials * other, -skew)
    # The two parts cancel out if there are very many trials, and their rounding may then leave less than nothing.
    return distance / abs(skew) * math.sqrt(2 * max(deviance, 0.0) / (1 + 1 / (6 * trials)))


def _log_ratio(value: float, expected: float, difference: float) -> float:
    """Return ln(value / expected); `difference` is that of the two, exact if they are close to each other."""
    close = abs(difference) < expected / 2
    return math.log1p(difference / expected) if close else math.log(value / expected)


def share_limits(count: int, trials: int, confidence: float) -> tuple[float, float]:
    """Return the confidence limits (0 … 1) of the share that `count` successes in `trials` (at least one) estimate.

    Clopper and Pearson, "The use of confidence or fiducial limits illustrated in the case of the binomial",
    Biometrika 26, 1934: the limits contain the share with at least the confidence, however few the trials.
    """
    error = (1 - confidence) / 2
    return _lower_limit(count, trials, error), 1 - _lower_limit(trials - count, trials, error)


def _lower_limit(count: int, trials: int, error: float) -> float:
    low, high = 0.0, count / trials
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if tail(count, trials, middle) < error:
            low = middle
        else:
            high = middle
    return low


def rank_limits(size: int, fraction: float, confidence: float) -> tuple[int, int]:
    """Return the ranks, among the sorted sample, that bound a quantile of the distribution.

    `fraction` (0 … 1) names the quantile. The smallest of the `size` values has rank 1. Rank 0 and rank
    `size` + 1 say that the sample is too small to bound the quantile.
    Thompson, "On confidence ranges for the median", Ann. Math. Stat. 7, 1936; David and Nagaraja, "Order Statistics",
    3rd ed., 2003, section 7.1. The limits hold for any distribution.
    """
    error = (1 - confidence) / 2
    return size + 1 - _upper_rank(size, 1 - fraction, error), _upper_rank(size, fraction, error)


def _upper_rank(size: int, fraction: float, error: float) -> int:
    """Return the lowest rank that is below the quantile with a probability of at most `error`."""
    ranks = range(1, size + 2)
    return ranks[bisect_left(ranks, True, key=lambda rank: tail(rank, size, fraction) <= error)]
