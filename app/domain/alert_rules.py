"""The rules of alerts: which models, by which measure, for how long."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from fnmatch import fnmatchcase

from app.domain.alert_measures import Measure, Outcome, Verdict, percent
from app.domain.statistics import Tally


@dataclass(frozen=True)
class Rule:
    """One rule; it watches each model by itself.

    `models` are names, or patterns with `*`, `?` or `[…]`. A breach must last for `hold`. The rule has no verdict if
    there are fewer predictions than `min_predictions`, or if a smaller share than `min_completeness` (0 … 1) of those
    of all versions was logged.
    """

    name: str
    models: tuple[str, ...]
    measure: Measure
    hold: timedelta = timedelta()
    model_version: str | None = None
    min_predictions: int = 1
    min_completeness: float = 0.9
    webhooks: tuple[str, ...] = ()

    @property
    def has_patterns(self) -> bool:
        """Whether the names of all models are needed to find the watched ones."""
        return any(map(_is_pattern, self.models))

    def watched(self, known: Iterable[str]) -> list[str]:
        """Return the watched models: all that the rule names, and all `known` models that match a pattern."""
        patterns = [model for model in self.models if _is_pattern(model)]
        named = {model for model in self.models if not _is_pattern(model)}
        found = {model for model in known if any(fnmatchcase(model, pattern) for pattern in patterns)}
        return sorted(named | found)

    def judge(self, tallies: Sequence[Tally], all_versions: Sequence[Tally] = ()) -> Verdict:
        """Judge the tallies of one model, one for each of the measure's samples, in their order.

        `all_versions` has the same samples with all versions; it may be left out if the rule selects no version.
        """
        if self.measure.needs_predictions:
            for tally in self.measure.evidence(all_versions or tallies):
                if (share := tally.completeness) is not None and share < self.min_completeness:
                    return Verdict(Outcome.UNRELIABLE, None, self._unreliable(tally, share))
            if (predictions := self.measure.sample_size(tallies)) < max(self.min_predictions, 1):
                reason = f"{predictions:,} predictions are too few, {self.min_predictions:,} are needed"
                return Verdict(Outcome.UNKNOWN, None, reason)
        return self.measure.judge(tallies)

    def _unreliable(self, tally: Tally, share: float) -> str:
        predictions = "predictions" if self.model_version is None else "predictions of all versions"
        return (
            f"only {percent(share)} of the {predictions} were logged and {tally.dropped:,} were dropped by clients: "
            f"less than {percent(self.min_completeness)}, so the figures cannot be believed"
        )


def _is_pattern(model: str) -> bool:
    return any(character in model for character in "*?[")
