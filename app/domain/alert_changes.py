"""Alerts that compare: with the same window of an earlier time, or with another version, by the test of comparisons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from app.domain.alert_measures import Outcome, Sample, Verdict, duration, percent, window_until
from app.domain.comparison import percentile_ratios, success_rates
from app.domain.instants import MINUTE, TimeRange
from app.domain.statistics import Tally


@dataclass(frozen=True)
class Change:
    """The error rate, or a percentile of the durations, against an earlier window or another version.

    Either `ago` is given, the time by which the other window lies earlier, or `against_version`, the other version.
    `above` limits the difference of error rates (0 … 1) and the ratio of percentiles.
    """

    window: timedelta
    percentile: float | None
    above: float
    confidence: float
    ago: timedelta | None = None
    against_version: str | None = None

    needs_predictions = True
    compares_windows = True

    @property
    def condition(self) -> str:
        if self.percentile is None:
            return f"error rate in {duration(self.window)} more than {percent(self.above)} above that of {self._other}"
        return f"p{self.percentile:g} in {duration(self.window)} more than {self.above:g} times that of {self._other}"

    @property
    def _other(self) -> str:
        return f"version {self.against_version}" if self.ago is None else f"{duration(self.ago)} before"

    @property
    def needs_latency(self) -> bool:
        return self.percentile is not None

    def samples(self, now: datetime, model_version: str | None) -> Sequence[Sample]:
        """The window, and as many minutes `ago` earlier or of the other version; no minute is in both windows."""
        current = window_until(now, self.window)
        if self.ago is None:
            return [Sample(current, model_version), Sample(current, self.against_version)]
        earlier = max(self.ago + -self.ago % MINUTE, current.length)
        before = TimeRange(current.start - earlier, current.end - earlier)
        return [Sample(current, model_version), Sample(before, model_version)]

    def evidence(self, tallies: Sequence[Tally]) -> Sequence[Tally]:
        return tallies

    def sample_size(self, tallies: Sequence[Tally]) -> int:
        return min(tally.total for tally in tallies)

    def judge(self, tallies: Sequence[Tally]) -> Verdict:
        now, before = tallies
        if self.percentile is not None:
            return self._slower(now, before, self.percentile)
        contrast = success_rates(before, now, self.confidence)
        assert contrast is not None
        difference, least = -contrast.estimate.value, -contrast.estimate.high
        text = (
            f"error rate {percent(now.failed / now.total)} of {now.total:,} predictions in {duration(self.window)}, "
            f"{percent(before.failed / before.total)} of {before.total:,} of {self._other}; more by "
            f"{percent(difference)}, certainly by {percent(max(least, 0))}, limit {percent(self.above)}"
        )
        return Verdict.of(least > self.above, difference, text)

    def _slower(self, now: Tally, before: Tally, percentile: float) -> Verdict:
        (contrast,) = percentile_ratios(before, now, [percentile], self.confidence)
        if contrast is None:
            return Verdict(
                Outcome.UNKNOWN, None, f"p{percentile:g} of {self._other} was 0 ms: there is no ratio to that"
            )
        (value,), (old,) = now.percentiles([percentile]), before.percentiles([percentile])
        text = (
            f"p{percentile:g} {value:.4g} ms of {now.total:,} predictions in {duration(self.window)}, {old:.4g} ms of "
            f"{before.total:,} of {self._other}; {contrast.estimate.value:.3g} times as long, certainly "
            f"{contrast.estimate.low:.3g} times, limit {self.above:g} times"
        )
        return Verdict.of(contrast.estimate.low > self.above, contrast.estimate.value, text)
