"""Statistics of a set of predictions: how many there were, how many failed, how long they took."""

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
NS_PER_MS = 1_000_000


@dataclass(frozen=True)
class Selection:
    """Which predictions to count: of these models (all if none are named), of this version (any if None).

    `model_versions` are several versions (any if none are named).
    """

    model_names: tuple[str, ...] = ()
    model_version: str | None = None
    model_versions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Series:
    """The edges of consecutive points of time: point i lasts from edges[i] to edges[i + 1]."""

    edges: tuple[datetime, ...]

    def within(self, part: TimeRange) -> tuple[int, tuple[datetime, ...]]:
        """Return the point in which a part begins, and the edges of points within the part.

        A range that was widened to whole buckets may begin before the series or end after it. These ends belong to the
        first or the last point.
        """
        inner = self.edges[1:-1]
        first = bisect_right(inner, part.start)
        return first, inner[first : bisect_left(inner, part.end)]


@dataclass
class Tally:
    """Counts, the sum of the durations (nanoseconds), extremes (milliseconds) and the latency sketch of predictions.

    The sum is a whole number, each duration rounded to its nearest nanosecond, so that it does not depend on the order
    of addition. Durations beyond 104 days count with their first 15 digits.
    `summarized` is how many of the predictions clients have counted instead of sending them whole. `dropped` is how
    many predictions clients dropped, at most SATURATION. Nothing else is known of them.
    """

    total: int = 0
    successful: int = 0
    duration_ns_sum: int = 0
    duration_ms_min: float | None = None
    duration_ms_max: float | None = None
    read_raw: int = 0
    summarized: int = 0
    dropped: int = 0
    sketch: LatencySketch = field(default_factory=LatencySketch)

    def __bool__(self) -> bool:
        return bool(self.total or self.dropped)

    @property
    def completeness(self) -> float | None:
        """The share of logged predictions among logged and dropped ones, 0 … 1; None if there are neither."""
        return self.total / (self.total + self.dropped) if self else None

    @property
    def failed(self) -> int:
        """The number of predictions that did not succeed."""
        return self.total - self.successful

    @property
    def success_rate(self) -> float | None:
        """The share of predictions that succeeded, 0 … 1; None if there were none."""
        return self.successful / self.total if self.total else None

    @property
    def average_duration_ms(self) -> float | None:
        """The mean duration in milliseconds, never beyond the extremes; None if there were no predictions.

        The bound is for durations that are no whole number of nanoseconds.
        """
        if not self.total:
            return None
        mean = self.duration_ns_sum / (self.total * NS_PER_MS)
        low, high = self.duration_ms_min, self.duration_ms_max
        return mean if low is None or high is None else min(max(mean, low), high)

    def __add__(self, other: Tally) -> Tally:
        both = Tally()
        both.merge(self)
        both.merge(other)
        return both

    def merge(self, other: Tally) -> None:
        """Add the predictions of another tally."""
        self.total += other.total
        self.successful += other.successful
        self.duration_ns_sum += other.duration_ns_sum
        self.duration_ms_min = min(
            (x for x in (self.duration_ms_min, other.duration_ms_min) if x is not None), default=None
        )
        self.duration_ms_max = max(
            (x for x in (self.duration_ms_max, other.duration_ms_max) if x is not None), default=None
        )
        self.read_raw += other.read_raw
        self.summarized += other.summarized
        self.dropped = min(self.dropped + other.dropped, SATURATION)
        self.sketch.merge(other.sketch)

    def percentiles(self, percentiles: Sequence[float]) -> list[float | None]:
        """Return the durations in milliseconds at these percentiles (0 … 100), within sketch.RELATIVE_ERROR.

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
        """Return, for each duration in milliseconds, the share of the predictions that took at most that long.

        Each share is None if there are no predictions. The extremes are known exactly: the share is 1 at and above the
        maximum and 0 below the minimum.
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

    `watermark`: the watermark of the aggregates; later predictions were read from raw rows.
    `raw_share`: the share of the counted predictions that were read from raw rows, 0 … 1.
    `hours_pending_repair`: hours in the range with an invalidation; they are read from raw rows until their refresh.
    `replica_lag_s`: how many seconds the answer may be behind the primary; None if the primary itself answered.
    `is_one_snapshot`: False if each node that holds a part of the models counted at a moment of its own.
    """

    watermark: datetime
    raw_share: float
    hours_pending_repair: int
    replica_lag_s: float | None = None
    is_one_snapshot: bool = True
