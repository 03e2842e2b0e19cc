"""The measures of alerts, and when a measured value is a breach.

Each measure names the predictions to count (`samples`) and judges their tallies. A limit counts as breached only if
chance does not explain it: the confidence limits of the true value, for independent predictions, lie beyond the limit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import NamedTuple, Protocol

from app.domain.binomial import share_limits
from app.domain.instants import MINUTE, TimeRange, ceiling, floor
from app.domain.statistics import Tally


class Outcome(Enum):
    """The result of a measurement: UNKNOWN if there are too few predictions, UNRELIABLE if too many were dropped."""

    FINE = "fine"
    BREACHED = "breached"
    UNKNOWN = "unknown"
    UNRELIABLE = "unreliable"


@dataclass(frozen=True)
class Verdict:
    """An outcome, the measured value, and a sentence about both."""

    outcome: Outcome
    value: float | None
    text: str

    @classmethod
    def of(cls, is_breached: bool, value: float | None, text: str) -> Verdict:
        """FINE or BREACHED. A value beyond what a double can hold becomes None, because JSON cannot have it."""
        value = value if value is None or math.isfinite(value) else None
        return cls(Outcome.BREACHED if is_breached else Outcome.FINE, value, text)


class Sample(NamedTuple):
    """Predictions to count: those of this range and of this version (any version if None)."""

    range: TimeRange
    model_version: str | None = None


def window_until(now: datetime, length: timedelta) -> TimeRange:
    """Return the whole minutes that hold the time of this length until `now`.

    What clients have summarised is known by the minute. In a part of a minute the failures, which come whole, would
    count without the successes, or the successes of the whole minute beside the failures of the part.
    """
    return TimeRange(floor(now - length, MINUTE), ceiling(now, MINUTE))


class Measure(Protocol):
    """One way to look at the predictions of a model."""

    @property
    def condition(self) -> str:
        """The breach in words."""
        ...

    @property
    def needs_latency(self) -> bool: ...

    @property
    def needs_predictions(self) -> bool:
        """Whether the measure needs enough predictions, and enough of them logged, for any verdict."""
        ...

    @property
    def compares_windows(self) -> bool:
        """Whether the tallies must be of equally long windows."""
        ...

    def samples(self, now: datetime, model_version: str | None) -> Sequence[Sample]: ...

    def evidence(self, tallies: Sequence[Tally]) -> Sequence[Tally]:
        """Return the tallies of which enough predictions must have been logged."""
        ...

    def sample_size(self, tallies: Sequence[Tally]) -> int:
        """Return the number of predictions that the verdict rests on."""
        ...

    def judge(self, tallies: Sequence[Tally]) -> Verdict: ...


@dataclass(frozen=True)
class _OneWindow:
    """A measure of the predictions of one window, which ends now."""

    window: timedelta

    needs_latency = False
    needs_predictions = True
    compares_windows = False

    def samples(self, now: datetime, model_version: str | None) -> Sequence[Sample]:
        return [Sample(window_until(now, self.window), model_version)]

    def evidence(self, tallies: Sequence[Tally]) -> Sequence[Tally]:
        return tallies

    def sample_size(self, tallies: Sequence[Tally]) -> int:
        return tallies[0].total

    def _in_window(self, tally: Tally, what: str) -> str:
        return f"{what} of {tally.total:,} predictions in {duration(self.window)}"


@dataclass(frozen=True)
class ErrorRate(_OneWindow):
    """The share of predictions that failed, at most `above` (0 … 1)."""

    above: float
    confidence: float

    @property
    def condition(self) -> str:
        return f"error rate in {duration(self.window)} above {percent(self.above)}"

    def judge(self, tallies: Sequence[Tally]) -> Verdict:
        tally = tallies[0]
        rate = tally.failed / tally.total
        # The limits of most models need not be worked out: the lower one is never above the rate itself.
        is_above = rate > self.above and share_limits(tally.failed, tally.total, self.confidence)[0] > self.above
        text = (
            f"error rate {percent(rate)} ({self._in_window(tally, f'{tally.failed:,}')}), limit {percent(self.above)}"
        )
        return Verdict.of(is_above, rate, text)


@dataclass(frozen=True)
class ShareUnder(_OneWindow):
    """The share of predictions that took at most `under_ms` milliseconds, at least `below` (0 … 1)."""

    under_ms: float
    below: float
    confidence: float

    needs_latency = True

    @property
    def condition(self) -> str:
        limit = f"{self.under_ms:g} ms in {duration(self.window)} below {percent(self.below)}"
        return f"share of predictions of at most {limit}"

    def judge(self, tallies: Sequence[Tally]) -> Verdict:
        share = tallies[0].shares_under([self.under_ms])[0]
        assert share is not None
        text = (
            f"{percent(share.value)} of {tallies[0].total:,} predictions in {duration(self.window)} took at most "
            f"{self.under_ms:g} ms, limit {percent(self.below)}"
        )
        return Verdict.of(_is_below(share.high, tallies[0].total, self.below, self.confidence), share.value, text)


@dataclass(frozen=True)
class Percentile(_OneWindow):
    """A percentile (0 … 100) of the durations, at most `above` milliseconds."""

    percentile: float
    above: float
    confidence: float

    needs_latency = True

    @property
    def condition(self) -> str:
        return f"p{self.percentile:g} in {duration(self.window)} above {self.above:g} ms"

    def judge(self, tallies: Sequence[Tally]) -> Verdict:
        """The percentile is above the limit if the share of predictions up to that limit is less than its fraction."""
        (value,), (share,) = tallies[0].percentiles([self.percentile]), tallies[0].shares_under([self.above])
        assert value is not None and share is not None
        known = self._in_window(tallies[0], "known to 1 %")
        text = f"p{self.percentile:g} {value:.4g} ms ({known}), limit {self.above:g} ms"
        is_above = _is_below(share.high, tallies[0].total, self.percentile / 100, self.confidence)
        return Verdict.of(is_above, value, text)


@dataclass(frozen=True)
class Silence(_OneWindow):
    """No prediction at all in the window."""

    needs_predictions = False

    def samples(self, now: datetime, model_version: str | None) -> Sequence[Sample]:
        """The window, and for a version once more with all versions, because drops are known by model only."""
        windows = super().samples(now, model_version)
        return windows if model_version is None else [*windows, *super().samples(now, None)]

    @property
    def condition(self) -> str:
        return f"no prediction in {duration(self.window)}"

    def judge(self, tallies: Sequence[Tally]) -> Verdict:
        tally, all_versions = tallies[0], tallies[-1]
        if all_versions.dropped and not all_versions.total:
            text = f"no prediction was logged in {duration(self.window)}, but clients dropped {all_versions.dropped:,}"
            return Verdict(Outcome.UNRELIABLE, 0.0, text)
        return Verdict.of(
            not tally.total, float(tally.total), f"{tally.total:,} predictions in {duration(self.window)}"
        )


@dataclass(frozen=True)
class Completeness(_OneWindow):
    """The share of logged predictions among logged and dropped ones of all versions, at least `below` (0 … 1)."""

    below: float

    needs_predictions = False

    def samples(self, now: datetime, model_version: str | None) -> Sequence[Sample]:
        """The window with all versions, because drops are known by model only."""
        return super().samples(now, None)

    @property
    def condition(self) -> str:
        return f"share of predictions that were logged in {duration(self.window)} below {percent(self.below)}"

    def judge(self, tallies: Sequence[Tally]) -> Verdict:
        tally, share = tallies[0], tallies[0].completeness
        if share is None:
            return Verdict(Outcome.UNKNOWN, None, f"no prediction in {duration(self.window)}")
        text = (
            f"{percent(share)} of the predictions in {duration(self.window)} were logged, {tally.dropped:,} were "
            f"dropped by clients, limit {percent(self.below)}"
        )
        return Verdict.of(share < self.below, share, text)


def _is_below(share: float, predictions: int, limit: float, confidence: float) -> bool:
    """Return whether the share is below the limit by more than chance, for this number of predictions."""
    return share < limit and share_limits(round(share * predictions), predictions, confidence)[1] < limit


def percent(share: float) -> str:
    """A share in three digits."""
    return f"{100 * share:.3g} %"


def duration(length: timedelta) -> str:
    """A length of time in words: 15 minutes, 1 hour, 3 days."""
    seconds = int(length.total_seconds())
    for unit, width in (("day", 86_400), ("hour", 3600), ("minute", 60), ("second", 1)):
        if seconds % width == 0 and seconds >= width:
            number = seconds // width
            return f"{number} {unit}" if number == 1 else f"{number} {unit}s"
    return f"{length.total_seconds():g} seconds"
