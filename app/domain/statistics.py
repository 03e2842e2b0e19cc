"""What is known about a set of calls: how many, how many failed, how long they took."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from app.domain.dropped import SATURATION
from app.domain.instants import TimeRange
from app.domain.sketch import LatencySketch, Share

GROUP_KEYS = ("model_name", "model_version")
DEFAULT_PERCENTILES = (50.0, 90.0, 95.0, 99.0)


@dataclass(frozen=True)
class Selection:
    """Which calls to look at: of these models (all if none are named), of this version (any if None).

    `model_versions` are several versions (any if none are named).
    """

    model_names: tuple[str, ...] = ()
    model_version: str | None = None
    model_versions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Series:
    """The edges of consecutive points of time: point i lasts from edges[i] to edges[i + 1]."""

    edges: tuple[datetime, ...]

    @property
    def range(self) -> TimeRange:
        """From the first edge to the last."""
        return TimeRange(self.edges[0], self.edges[-1])

    def within(self, part: TimeRange) -> tuple[int, tuple[datetime, ...]]:
        """The point in which a part begins, and where in it the points that follow begin.

        What lies outside of the series, as where a range was widened to whole buckets, belongs to its first or last
        point.
        """
        inner = self.edges[1:-1]
        first = bisect_right(inner, part.start)
        return first, inner[first : bisect_left(inner, part.end)]


@dataclass
class Tally:
    """Counts, sums (milliseconds), extremes and the latency sketch of a set of calls.

    `dropped` calls are known only by their number, which ends at SATURATION: clients had to throw them away.
    """

    total: int = 0
    successful: int = 0
    duration_ms_sum: float = 0.0
    duration_ms_min: float | None = None
    duration_ms_max: float | None = None
    read_raw: int = 0
    dropped: int = 0
    sketch: LatencySketch = field(default_factory=LatencySketch)

    def __bool__(self) -> bool:
        return bool(self.total or self.dropped)

    @property
    def completeness(self) -> float | None:
        """Share of the calls known of that were logged, 0 … 1; None where none are known of."""
        return self.total / (self.total + self.dropped) if self else None

    @property
    def failed(self) -> int:
        """Calls that did not succeed."""
        return self.total - self.successful

    @property
    def success_rate(self) -> float | None:
        """Share of calls that succeeded, 0 … 1; None where there were none."""
        return self.successful / self.total if self.total else None

    @property
    def average_duration_ms(self) -> float | None:
        """Mean duration in milliseconds, never beyond the extremes; None where there were no calls.

        The sum of ten times 0.1 is less than 1 in binary numbers, and their mean would be below each of them.
        """
        if not self.total:
            return None
        mean = self.duration_ms_sum / self.total
        low, high = self.duration_ms_min, self.duration_ms_max
        return mean if low is None or high is None else min(max(mean, low), high)

    def __add__(self, other: Tally) -> Tally:
        both = Tally()
        both.merge(self)
        both.merge(other)
        return both

    def merge(self, other: Tally) -> None:
        """Add the calls of another tally."""
        self.total += other.total
        self.successful += other.successful
        self.duration_ms_sum += other.duration_ms_sum
        self.duration_ms_min = min(
            (x for x in (self.duration_ms_min, other.duration_ms_min) if x is not None), default=None
        )
        self.duration_ms_max = max(
            (x for x in (self.duration_ms_max, other.duration_ms_max) if x is not None), default=None
        )
        self.read_raw += other.read_raw
        self.dropped = min(self.dropped + other.dropped, SATURATION)
        self.sketch.merge(other.sketch)

    def percentiles(self, percentiles: Sequence[float]) -> list[float | None]:
        """Durations in milliseconds at these percentiles (0 … 100), within sketch.RELATIVE_ERROR of the true ones.

        The extremes are known exactly, and nothing lies beyond them.
        """
        low, high = self.duration_ms_min, self.duration_ms_max
        if not percentiles or low is None or high is None:
            return [None] * len(percentiles)
        estimates = self.sketch.quantiles([percentile / 100 for percentile in percentiles])
        return [
            None if estimate is None
            else low if percentile == 0
            else high if percentile == 100
            else min(max(estimate, low), high)
            for percentile, estimate in zip(percentiles, estimates)
        ]  # fmt: skip

    def shares_under(self, durations_ms: Sequence[float]) -> list[Share | None]:
        """For each duration in milliseconds the share of the calls that took at most that long; None without calls.

        The extremes are known exactly: at or above the maximum it is all calls, below the minimum none.
        """
        low, high = self.duration_ms_min, self.duration_ms_max
        if low is None or high is None:
            return [None] * len(durations_ms)
        return [
            Share(0.0, 0.0, 0.0) if duration_ms < low
            else Share(1.0, 1.0, 1.0) if duration_ms >= high
            else self.sketch.share_under(duration_ms)
            for duration_ms in durations_ms
        ]  # fmt: skip


@dataclass(frozen=True)
class Freshness:
    """How an answer was made.

    `watermark`: the watermark of the aggregates; what is later was read from raw rows.
    `raw_share`: share of the counted calls that were read from raw rows, 0 … 1.
    `hours_pending_repair`: hours in the range that changed after they were materialised (read raw until repaired).
    `replica_lag_s`: seconds that it may be behind the primary at most; None where the primary itself answered.
    """

    watermark: datetime
    raw_share: float
    hours_pending_repair: int
    replica_lag_s: float | None = None
