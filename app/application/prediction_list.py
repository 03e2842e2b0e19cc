"""List logged predictions, newest first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from app.application.predictions import Calls


@dataclass(frozen=True)
class Filters:
    """Which predictions to list; None stands for any. `start` belongs to the range, `end` does not."""

    model_names: Sequence[str] | None = None
    model_version: str | None = None
    was_successful: bool | None = None
    start: datetime | None = None
    end: datetime | None = None
    min_duration_ms: float | None = None


@dataclass(frozen=True)
class Cursor:
    """A place in the list, newest first: the time and id of the last prediction that was seen."""

    timestamp: datetime
    id: int


@dataclass(frozen=True)
class Page:
    """Calls, newest first, with their ids.

    `next` is where the next page begins, None where there is no more. A page may have fewer calls than were asked for,
    or none, while there is more: so many bytes fit into it, and so many calls are looked through for it.
    """

    ids: Sequence[int]
    calls: Calls
    next: Cursor | None


class PredictionList(Protocol):
    """Lists logged predictions, and cannot log any."""

    def page(self, filters: Filters, cursor: Cursor | None, limit: int) -> Page:
        """The newest predictions that pass the filters, older than the cursor. Raises StorageTimeout."""
