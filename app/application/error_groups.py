"""Failed predictions, grouped by errors that differ only in numbers and identifiers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol

from app.domain.instants import TimeRange
from app.domain.statistics import Selection


class Cursor(NamedTuple):
    """A position in the list, most frequent first: the last group of the page before."""

    predictions: int
    model_name: str
    fingerprint: str


@dataclass(frozen=True)
class ErrorGroup:
    """The failed predictions of one model whose errors have one pattern; "" if they were logged without an error.

    `count`, `last_seen`, `last_id` and `versions` are about the range of the question; `first_seen` and
    `first_version` are about all predictions before its end that the log still has.
    """

    model_name: str
    fingerprint: str
    pattern: str
    count: int
    first_seen: datetime
    first_version: str
    last_seen: datetime
    last_id: int
    versions: Sequence[str]

    @property
    def cursor(self) -> Cursor:
        """The cursor of the page after this group."""
        return Cursor(self.count, self.model_name, self.fingerprint)


class ErrorGroups(Protocol):
    """Groups failed predictions."""

    def page(
        self, selection: Selection, time_range: TimeRange, after: Cursor | None, limit: int
    ) -> Sequence[ErrorGroup]: ...
