"""What clients dropped: count their reports, and remove reports that cannot be true."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from app.domain.dropped import DroppedReport
from app.domain.errors import InvalidInput
from app.domain.predictions import text_problem


@dataclass(frozen=True)
class Counted:
    """How many reports were new, and how many of their dropped predictions are not counted.

    A minute counts at most MAX_COUNT dropped predictions of one model and one reason, and leaves out the rest.
    """

    reports: int
    left_out: int


@dataclass(frozen=True)
class Removed:
    """How many single reports were removed, and how many dropped predictions the statistics no longer count.

    Retention may have deleted reports before: the first number leaves them out, the second includes their predictions.
    """

    reports: int
    dropped: int


def facts(model_names: Sequence[str], start: datetime | None, end: datetime | None) -> dict[str, Any]:
    """Return the filters of a removal as fields for its audit line in the log."""
    span = {"from": start and start.isoformat(), "to": end and end.isoformat()}
    return {"models": list(model_names) or "all", **span}


class DroppedStore(Protocol):
    """The store of reports."""

    def add(self, reports: Sequence[DroppedReport]) -> Counted: ...

    def remove(self, model_names: Sequence[str], start: datetime | None, end: datetime | None) -> Removed: ...


class Dropped:
    """The reports of dropped predictions."""

    def __init__(self, store: DroppedStore) -> None:
        self._store = store

    def report(self, reports: Sequence[DroppedReport]) -> Counted:
        """Count the reported predictions. Raises DroppedBehindRetention."""
        return self._store.add(reports) if reports else Counted(0, 0)

    def remove(self, model_names: Sequence[str], start: datetime | None, end: datetime | None) -> Removed:
        """Remove the reports of these models (of all, if none is named) about the minutes that begin in a range.

        `start` belongs to the range, `end` does not; None leaves it open. Raises InvalidInput if no filter is given,
        or if a name cannot be kept as text.
        """
        if not model_names and start is None and end is None:
            raise InvalidInput("model_name", "Missing: name a model, or where the range begins or ends.")
        for problem in filter(None, map(text_problem, model_names)):
            raise InvalidInput("model_name", problem)
        if start is not None and end is not None and start > end:
            raise InvalidInput("from", "Must not be after the end of the range.")
        return self._store.remove(model_names, start, end)
