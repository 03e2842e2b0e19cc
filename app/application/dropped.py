"""What clients dropped: take their reports, and take reports out again that cannot be true."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from app.domain.dropped import DroppedReport
from app.domain.errors import InvalidInput


@dataclass(frozen=True)
class Counted:
    """How many reports were new, and how many of their dropped calls are not counted.

    Of one model and for one reason a minute counts MAX_COUNT at most: what is beyond that is left out.
    """

    reports: int
    left_out: int


@dataclass(frozen=True)
class Removed:
    """How many single reports were removed, and how many dropped calls the statistics count no more.

    Reports that retention has deleted are not among the former, but their calls are among the latter.
    """

    reports: int
    dropped: int


def facts(model_names: Sequence[str], start: datetime | None, end: datetime | None) -> dict[str, Any]:
    """What a removal is about, as the audit line of the log says it."""
    span = {"from": start and start.isoformat(), "to": end and end.isoformat()}
    return {"models": list(model_names) or "all", **span}


class DroppedStore(Protocol):
    """Where reports are kept."""

    def add(self, reports: Sequence[DroppedReport]) -> Counted: ...

    def remove(self, model_names: Sequence[str], start: datetime | None, end: datetime | None) -> Removed: ...


class Dropped:
    """The calls that were never logged."""

    def __init__(self, store: DroppedStore) -> None:
        self._store = store

    def report(self, reports: Sequence[DroppedReport]) -> Counted:
        """Count what was dropped. Raises DroppedBehindRetention."""
        return self._store.add(reports) if reports else Counted(0, 0)

    def remove(self, model_names: Sequence[str], start: datetime | None, end: datetime | None) -> Removed:
        """Remove what was reported of these models (of all, if none is named) and of the minutes that begin in a range.

        `start` belongs to the range, `end` does not; None leaves it open. Raises InvalidInput if nothing is named.
        """
        if not model_names and start is None and end is None:
            raise InvalidInput("model_name", "Missing: name a model, or where the range begins or ends.")
        if start is not None and end is not None and start > end:
            raise InvalidInput("from", "Must not be after the end of the range.")
        return self._store.remove(model_names, start, end)
