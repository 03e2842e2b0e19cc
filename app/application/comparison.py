"""Ask the same question about two sets of predictions, and compare the answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.application.statistics import Answer, Question, Statistics
from app.domain.comparison import Contrast, percentile_ratios, success_rates
from app.domain.errors import InvalidInput


@dataclass(frozen=True)
class Comparison:
    """Two answers, and how b differs from a; a contrast is None if a side has nothing to compare."""

    a: Answer
    b: Answer
    success_rate: Contrast | None
    durations: Sequence[Contrast | None]


class Comparisons:
    """Comparisons of two sets of predictions."""

    def __init__(self, statistics: Statistics) -> None:
        self._statistics = statistics

    def compare(self, a: Question, b: Question, percentiles: Sequence[float], confidence: float) -> Comparison:
        """Compare b with a. Raises InvalidInput if both sides would have predictions in common."""
        first, second = self._statistics.ask(a), self._statistics.ask(b)
        if a.selection == b.selection and first.range.overlaps(second.range):
            raise _shared_predictions(first, second)
        x, y = first.total, second.total
        return Comparison(
            first, second, success_rates(x, y, confidence), percentile_ratios(x, y, percentiles, confidence)
        )


def _shared_predictions(a: Answer, b: Answer) -> InvalidInput:
    if a.range == b.range:
        return InvalidInput("version_b", "Must differ from `version_a` over the same range.")
    counted = " and ".join(f"{side.range.start.isoformat()} to {side.range.end.isoformat()}" for side in (a, b))
    return InvalidInput("from_b", f"The two ranges must not share predictions; counted would be {counted}.")
