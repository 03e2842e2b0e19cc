"""The latency sketch: counts in bins whose bounds grow geometrically, so that any quantile has a known relative error.

The idea is DDSketch (Masson, Rim, Lee, "DDSketch: A fast and fully-mergeable quantile sketch with relative-error
guarantees", PVLDB 12(12), 2019). A duration of x ms falls into bin ceil(ln x / ln γ) with γ = (1 + α) / (1 − α);
2 γ^bin / (γ + 1) is then within α of every duration in the bin. Sketches merge by adding the counts of equal bins.
There is no largest and no smallest bin; zero, which has no logarithm, has a bin of its own.
"""

from __future__ import annotations

import math
import sys
from bisect import bisect_right
from collections.abc import Collection, Iterable, Sequence
from itertools import accumulate
from typing import NamedTuple

RELATIVE_ERROR = 0.01
GAMMA = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
LN_GAMMA = math.log(GAMMA)
ZERO_BIN = -100_000
# The logarithms of the database and of Python may differ in the last digits, and so put a duration beside a bound into
# two bins.
ROUNDING = 1e-12


class Share(NamedTuple):
    """A share of predictions, 0 … 1: the estimate, and the limits between which the true share certainly lies."""

    value: float
    low: float
    high: float


def bin_of(duration_ms: float) -> int:
    """Return the bin of a duration in milliseconds; the database computes the same in SQL (`latency_bin`)."""
    return math.ceil(math.log(duration_ms) / LN_GAMMA) if duration_ms > 0 else ZERO_BIN


def upper_bound(bin_index: int) -> float:
    """Return the longest duration in milliseconds that falls into a bin; its shortest is just above the bin before."""
    try:
        return 0.0 if bin_index == ZERO_BIN else math.exp(bin_index * LN_GAMMA)
    except OverflowError:
        return sys.float_info.max


def value_of(bin_index: int) -> float:
    """Return the duration in milliseconds that stands for a bin, within RELATIVE_ERROR of every duration in it."""
    return 0.0 if bin_index == ZERO_BIN else 2 * math.exp(bin_index * LN_GAMMA) / (GAMMA + 1)


class LatencySketch:
    """The number of predictions in each bin. Sketches can be merged, and their total is exact."""

    def __init__(self, counts: Iterable[tuple[int, int]] = ()) -> None:
        self._counts: dict[int, int] = {}
        self._last: tuple[tuple[float, ...], list[float | None]] = ((), [])
        self.add(counts)

    def add(self, counts: Iterable[tuple[int, int]]) -> None:
        """Merge pairs of (bin, number of predictions) in."""
        self._last = ((), [])
        mine = self._counts
        pairs = counts if isinstance(counts, Collection) else list(counts)
        if not mine and len(fresh := dict(pairs)) == len(pairs):
            self._counts = fresh  # each bin came once: nothing to add
            return
        for bin, number in pairs:
            mine[bin] = mine.get(bin, 0) + number

    def merge(self, other: LatencySketch) -> None:
        """Merge another sketch in."""
        self.add(other._counts.items())

    @property
    def weight(self) -> int:
        """How many bins the sketch holds."""
        return len(self._counts)

    @property
    def counts(self) -> list[tuple[int, int]]:
        """Pairs of (bin, number of predictions), from the fastest to the slowest; empty bins are left out."""
        return sorted((bin, number) for bin, number in self._counts.items() if number > 0)

    def share_under(self, duration_ms: float) -> Share | None:
        """Return the share of the predictions that took at most `duration_ms`; None if the sketch is empty.

        Only the bin that holds `duration_ms` is in doubt: its predictions are divided as if they lay evenly in it.
        """
        counts = self.counts
        if not counts:
            return None
        first, last = bin_of(duration_ms * (1 - ROUNDING)), bin_of(duration_ms * (1 + ROUNDING))
        faster = sum(number for bin, number in counts if bin < first or bin == ZERO_BIN)
        in_doubt = sum(number for bin, number in counts if first <= bin <= last and bin != ZERO_BIN)
        total = sum(number for _, number in counts)
        low, high = upper_bound(first - 1), upper_bound(last)
        part = min(max((duration_ms - low) / (high - low), 0.0), 1.0) if high > low else 1.0
        return Share((faster + part * in_doubt) / total, faster / total, (faster + in_doubt) / total)

    def quantiles(self, fractions: Sequence[float]) -> list[float | None]:
        """Estimate quantiles in milliseconds, each within RELATIVE_ERROR of the true one; None if the sketch is empty.

        `fractions` lie in 0 … 1. The true quantile is PostgreSQL's `percentile_cont`, which interpolates between the
        two closest ranks. Both neighbours are known within RELATIVE_ERROR and are not negative, so an interpolated
        value is within RELATIVE_ERROR as well.
        """
        asked, last = tuple(fractions), self._last
        if last[0] != asked:  # another thread may replace self._last meanwhile
            last = self._last = (asked, self._quantiles(asked))
        return list(last[1])

    def _quantiles(self, fractions: Sequence[float]) -> list[float | None]:
        if not self._counts:
            return [None] * len(fractions)
        bins = sorted(self._counts)
        ranks = list(accumulate(map(self._counts.__getitem__, bins)))

        def at(rank: int) -> float:
            return value_of(bins[bisect_right(ranks, rank)])

        def quantile(fraction: float) -> float:
            position = min(fraction * (ranks[-1] - 1), ranks[-1] - 1)  # beyond 2**53 the product may be rounded up
            below = int(position)
            low, share = at(below), position - below
            return low + (at(below + 1) - low) * share if share else low

        return [quantile(fraction) for fraction in fractions]
