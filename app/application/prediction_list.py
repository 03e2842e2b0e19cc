"""List logged predictions, newest first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from app.application.predictions import PredictionColumns


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
    """A position in the list, newest first: the time and id of the last prediction of the page before."""

    timestamp: datetime
    id: int


@dataclass(frozen=True)
class Page:
    """Predictions, newest first, with their ids.

    `next` is the cursor of the next page; None if this page is the last. A page may have fewer predictions than the
    limit, or none, although it is not the last: its size in bytes is limited, and so is the number of predictions that
    are searched for it.
    """

    ids: Sequence[int]
    predictions: PredictionColumns
    next: Cursor | None


class PredictionList(Protocol):
    """Lists logged predictions, and cannot log any."""

    def page(self, filters: Filters, cursor: Cursor | None, limit: int) -> Page:
        """Return the newest predictions that pass the filters and are older than the cursor. Raises StorageTimeout."""
