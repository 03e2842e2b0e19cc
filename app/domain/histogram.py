"""Divide the durations of many predictions into a few columns, for a histogram or a heat map.

A column joins consecutive bins of the sketch. So the bounds of the columns grow geometrically, and the counts are
exact, because the sketch knows for every prediction on which side of a bin's bound it lies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from app.domain.sketch import ZERO_BIN, LatencySketch, upper_bound

MIN_COLUMNS = 3  # one for zero, one for durations below 1 ms, one for longer ones


@dataclass(frozen=True)
class Column:
    """The predictions of more than `from_ms` and at most `to_ms` milliseconds; both are 0 in the column of 0 ms."""

    from_ms: float
    to_ms: float


@dataclass(frozen=True)
class Columns:
    """Columns end to end, from the fastest prediction to the slowest.

    Column n holds the bins of the sketch from width · (n − 1), excluded, to width · n, included.
    """

    has_zero: bool
    first: int
    last: int
    width: int

    @classmethod
    def of(cls, sketch: LatencySketch, max_columns: int) -> Columns:
        """Return the finest columns that hold all predictions of the sketch, `max_columns` at most.

        `max_columns` is MIN_COLUMNS or more. The columns begin at whole multiples of their width, so they keep their
        bounds when predictions are added.
        """
        bins = [bin for bin, _ in sketch.counts]
        has_zero = ZERO_BIN in bins
        bins = [bin for bin in bins if bin != ZERO_BIN]
        if not bins:
            return cls(has_zero, 1, 0, 1)
        width = max(1, (bins[-1] - bins[0]) // max_columns)
        while _column(bins[-1], width) - _column(bins[0], width) + 1 > max_columns - has_zero:
            width += 1
        return cls(has_zero, _column(bins[0], width), _column(bins[-1], width), width)

    def __len__(self) -> int:
        return self.has_zero + self.last - self.first + 1

    @property
    def bounds(self) -> list[Column]:
        """The bounds of each column."""
        edges = [upper_bound(self.width * number) for number in range(self.first - 1, self.last + 1)]
        return [Column(0.0, 0.0)] * self.has_zero + [Column(low, high) for low, high in pairwise(edges)]

    def counts(self, sketch: LatencySketch) -> Sequence[int]:
        """Count the predictions of a sketch in each column; the sketch is a part of the one that made the columns."""
        counts = [0] * len(self)
        for bin, number in sketch.counts:
            place = 0 if bin == ZERO_BIN else self.has_zero + _column(bin, self.width) - self.first
            counts[place] += number
        return counts


def _column(bin_index: int, width: int) -> int:
    return -(-bin_index // width)
