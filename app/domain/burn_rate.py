"""How fast a service uses up the errors that its objective leaves it.

With an objective of 99.9 % the error budget is 0.1 % of the predictions of a period. A burn rate of 1 uses up the
budget in exactly the period. An alert looks at two windows: the long one must have burnt a share of the budget that
matters, and the short one, a twelfth of it, must still be burning, so that the alert ends soon after the errors do. The
windows and shares are those that Google recommends: Beyer et al. (eds.), "The Site Reliability Workbook", O'Reilly
2018, chapter 5, "Alerting on SLOs", section 6, "Multiwindow, Multi-Burn-Rate Alerts", table 5-8.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from app.domain.alert_measures import Sample, Verdict, duration, percent, window_until
from app.domain.statistics import Tally

SHORT_WINDOW = 1 / 12


@dataclass(frozen=True)
class Burn:
    """An alert's condition: `share` of the period's budget is used in `window`."""

    share: float
    window: timedelta

    def factor(self, period: timedelta) -> float:
        """Return the burn rate that uses up `share` of the budget of `period` within `window`."""
        return self.share * period / self.window


FAST = (Burn(0.02, timedelta(hours=1)), Burn(0.05, timedelta(hours=6)))  # urgent: page the engineer on call
SLOW = (Burn(0.10, timedelta(days=3)),)  # not urgent: a ticket for the next days


@dataclass(frozen=True)
class BurnRate:
    """The error budget of an objective (0 … 1): the share of predictions that succeed, within `under_ms` if given."""

    objective: float
    period: timedelta
    burns: tuple[Burn, ...]
    under_ms: float | None = None

    needs_predictions = True
    compares_windows = False

    @property
    def condition(self) -> str:
        limits = " or ".join(f"{burn.factor(self.period):.3g} times in {duration(burn.window)}" for burn in self.burns)
        slow = "" if self.under_ms is None else f", predictions over {self.under_ms:g} ms being errors"
        budget = f"the error budget of {percent(1 - self.objective)} in {duration(self.period)}"
        return f"{budget} burns faster than it may: {limits}{slow}"

    @property
    def needs_latency(self) -> bool:
        return self.under_ms is not None

    def samples(self, now: datetime, model_version: str | None) -> Sequence[Sample]:
        """The long and the short window of each condition, and at the end the whole period."""
        lengths = [length for burn in self.burns for length in (burn.window, burn.window * SHORT_WINDOW)]
        return [Sample(window_until(now, length), model_version) for length in (*lengths, self.period)]

    def evidence(self, tallies: Sequence[Tally]) -> Sequence[Tally]:
        """Return all tallies but that of the period, because drops of a week ago say nothing about now."""
        return tallies[:-1]

    def sample_size(self, tallies: Sequence[Tally]) -> int:
        return max(tally.total for tally in tallies[:-1])

    def judge(self, tallies: Sequence[Tally]) -> Verdict:
        rates = [self._rate(tally) for tally in tallies]
        pairs = list(zip(self.burns, list(pairwise(rates))[:-1:2]))
        breached = [(burn, pair) for burn, pair in pairs if min(pair) > burn.factor(self.period)]
        burn, (long, short) = max(breached or pairs, key=lambda found: found[1][0] / found[0].factor(self.period))
        text = (
            f"the error budget of {percent(1 - self.objective)} burns {long:.3g} times as fast as it may in "
            f"{duration(burn.window)} and {short:.3g} times in {duration(burn.window * SHORT_WINDOW)}, limit "
            f"{burn.factor(self.period):.3g} times; {self._left(rates[-1])}"
        )
        return Verdict.of(bool(breached), long, text)

    def _left(self, used: float) -> str:
        rest = f"{percent(1 - used)} of it is left" if used <= 1 else f"it is used up {used:.3g} times"
        return f"{rest} in {duration(self.period)}"

    def _rate(self, tally: Tally) -> float:
        return self._bad(tally) / tally.total / (1 - self.objective) if tally.total else 0.0

    def _bad(self, tally: Tally) -> float:
        """Count the predictions that failed or, if the objective has a duration, at least as many as were too slow."""
        if self.under_ms is None:
            return tally.failed
        (share,) = tally.shares_under([self.under_ms])
        return max(tally.failed, tally.total * (1 - share.value)) if share else 0.0
