"""Limit how many new models and versions a caller may log in a day."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from app.application.predictions import Batch, Rejection
from app.domain.dropped import DroppedReport
from app.domain.errors import TooManyNewModels
from app.domain.predictions import Prediction
from app.domain.summaries import Summary

# Name and version; the version is None for a report of dropped predictions, which is about all versions.
Model = tuple[str, str | None]

KNOWN_FOR_S = 300.0
GRANTED_FOR_S = 86_400.0
MAX_KNOWN = 50_000


class NameStore(Protocol):
    """The names of all models and versions, and how many new ones each caller may still log."""

    def known(self, models: Sequence[Model]) -> set[Model]:
        """Return those of the models that were ever logged or, without a version, reported."""
        ...

    def grant(self, caller: str, wanted: int, per_day: int) -> int:
        """Take up to `wanted` from what is left of the caller's allowance, and return how many were left."""
        ...


class NewModels:
    """Admits known models and versions, and `per_day` new ones for each caller; any number if `per_day` is 0.

    The allowance comes back evenly over the day. Known models are remembered, so that a prediction of a known model
    costs one look into a set. Granted models are remembered for a day: the store does not know a model of which only
    halves of predictions came, and its allowance would be taken again and again.
    """

    def __init__(self, store: NameStore, per_day: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._per_day = per_day
        self._monotonic = monotonic
        self._known: set[Model] = set()
        self._known_since = monotonic()
        self._granted: set[Model] = set()
        self._granted_since = monotonic()

    def check(self, caller: str, prediction: Prediction) -> None:
        """Raises TooManyNewModels if this caller may not log this model."""
        if self._refused(caller, [(prediction.model_name, prediction.model_version)]):
            raise TooManyNewModels(self._per_day)

    def admit(self, caller: str, batch: Batch) -> Batch:
        """Return the batch with the predictions and summaries rejected whose models this caller may not log."""
        models: list[Model] = list(zip(batch.predictions.model_name, batch.predictions.model_version))
        summarized = [_model(summary) for summary in batch.summaries.values()]
        refused = self._refused(caller, [*models, *summarized] if summarized else models)
        if not refused:
            return batch
        error = TooManyNewModels(self._per_day)
        rejection = Rejection({error.field: [error.message]})
        rows = [row for row, model in enumerate(models) if model in refused]
        return batch.without(rows, rejection).without_summaries(lambda summary: _model(summary) in refused, rejection)

    def check_reports(self, caller: str, reports: Sequence[DroppedReport]) -> None:
        """Raises TooManyNewModels if this caller may not report one of these models."""
        if self._refused(caller, [(report.model_name, None) for report in reports]):
            raise TooManyNewModels(self._per_day)

    def admit_reports(self, caller: str, reports: Sequence[DroppedReport], batch: Batch) -> list[DroppedReport]:
        """Return those of the reports sent with a batch whose models this caller may report, or logs in the batch."""
        logged = {*batch.predictions.model_name, *(summary.model_name for summary in batch.summaries.values())}
        refused = self._refused(
            caller, [(report.model_name, None) for report in reports if report.model_name not in logged]
        )
        return [report for report in reports if (report.model_name, None) not in refused]

    def _refused(self, caller: str, models: Iterable[Model]) -> set[Model]:
        if not self._per_day:
            return set()
        known, granted = self._recently_known(), self._recently_granted()
        # Looked up once: meanwhile another thread may make the last unknown model known.
        unknown = [model for model in dict.fromkeys(models) if model not in known and model not in granted]
        if not unknown:
            return set()
        found = self._store.known(unknown)
        new = [model for model in unknown if model not in found]
        number = self._store.grant(caller, len(new), self._per_day) if new else 0
        known.update(found)
        granted.update(new[:number])
        return set(new[number:])

    def _recently_known(self) -> set[Model]:
        """Return the known models; they are forgotten now and then, because a model may have been purged."""
        if self._monotonic() - self._known_since > KNOWN_FOR_S or len(self._known) > MAX_KNOWN:
            self._known, self._known_since = set(), self._monotonic()
        return self._known

    def _recently_granted(self) -> set[Model]:
        if self._monotonic() - self._granted_since > GRANTED_FOR_S or len(self._granted) > MAX_KNOWN:
            self._granted, self._granted_since = set(), self._monotonic()
        return self._granted


def _model(summary: Summary) -> Model:
    return summary.model_name, summary.model_version
