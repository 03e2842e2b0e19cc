"""Remove many predictions for good: those of a model, of a range of time, or with a request id."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

from app.domain.errors import InvalidInput
from app.domain.instants import TimeRange
from app.domain.predictions import EARLIEST, FUTURE_TOLERANCE, text_problem


@dataclass(frozen=True)
class PurgeFilters:
    """Which predictions to remove: those that pass all filters; None stands for any.

    Raises InvalidInput if there is no filter, if a name cannot be kept as text, if a version stands without its model,
    or if a range ends before it begins.
    """

    model_name: str | None = None
    model_version: str | None = None
    start: datetime | None = None
    end: datetime | None = None
    request_id: UUID | None = None

    def __post_init__(self) -> None:
        if not any((self.model_name, self.start, self.end, self.request_id)):
            raise InvalidInput("model_name", "Missing: give `model_name`, `from`, `to` or `request_id`.")
        for field, text in (("model_name", self.model_name), ("model_version", self.model_version)):
            if problem := text_problem(text or ""):
                raise InvalidInput(field, problem)
        if self.model_version is not None and self.model_name is None:
            raise InvalidInput("model_version", "Missing: `model_name`, whose version it is.")
        if self.start and self.end and self.start >= self.end:
            raise InvalidInput("from", "Must not be after the end of the range.")

    @property
    def is_whole_model(self) -> bool:
        """Whether the filters name a whole model, or a whole version of it, and nothing else."""
        return self.model_name is not None and not (self.start or self.end or self.request_id)

    def range(self, now: datetime) -> TimeRange:
        """Return the range of time that the purge searches; predictions logged with a later time stay."""
        start, end = self.start or EARLIEST, self.end or now + 2 * FUTURE_TOLERANCE
        return TimeRange(min(start, end), end)


@dataclass(frozen=True)
class Purged:
    """How far a purge has come.

    `deleted` counts predictions, summarised ones included. `buckets_deleted` counts buckets of the aggregates from
    before `raw_from`, the retention edge of raw rows; only a purge of a whole model deletes these. `is_complete` says
    that nothing is left to do.
    """

    deleted: int = 0
    buckets_deleted: int = 0
    raw_from: datetime | None = None
    is_complete: bool = False

    def keeps_aggregates_of(self, filters: PurgeFilters, now: datetime) -> bool:
        """Return whether the range begins before the retention edge and the aggregates before it stay as they are."""
        is_of_times = not (filters.is_whole_model or filters.request_id)
        return bool(is_of_times and self.raw_from and filters.range(now).start < self.raw_from)


class PurgeStore(Protocol):
    """The store of predictions and aggregates; each method is a transaction of its own and may be repeated."""

    def raw_from(self) -> datetime | None:
        """Return the retention edge: there are no single predictions before it."""
        ...

    def count(self, filters: PurgeFilters, within: TimeRange) -> int:
        """Count the predictions that would be removed, summarised ones included."""
        ...

    def remove_predictions(self, filters: PurgeFilters, within: TimeRange) -> tuple[int, datetime | None]:
        """Remove the oldest of them.

        Return how many, and the time at which the next ones begin (None after the last).
        """
        ...

    def remove_halves(self, filters: PurgeFilters, within: TimeRange) -> None:
        """Remove the halves of predictions that wait for the other half."""
        ...

    def remove_summaries(self, filters: PurgeFilters, within: TimeRange) -> int | None:
        """Remove what was summarised of a model on a single day; return how many predictions, None if nothing is left.

        Of a range these are the minutes that begin in it; minutes behind the retention edge stay, unless a whole model
        is removed.
        """
        ...

    def first_bucket(self, filters: PurgeFilters, before: datetime) -> datetime | None:
        """Return the first day that the aggregates have of a model before the retention edge."""
        ...

    def remove_buckets(self, filters: PurgeFilters, within: TimeRange) -> int:
        """Remove a model's buckets from before the retention edge; return how many."""
        ...

    def tidy(self, model_name: str | None) -> None:
        """Take models without predictions out of the list of models."""
        ...


class Purge:
    """Removes predictions piece by piece, from the statistics as well; the aggregates stay exact at every moment."""

    WEEK = timedelta(days=7)

    def __init__(self, store: PurgeStore) -> None:
        self._store = store

    def count(self, filters: PurgeFilters, now: datetime) -> int:
        """Count the predictions that a purge would remove now."""
        return self._store.count(filters, filters.range(now))

    def run(self, filters: PurgeFilters, now: datetime) -> Iterator[Purged]:
        """Remove the predictions piece by piece, and yield the progress after each piece.

        If the caller stops between two pieces, the same purge can be run again and removes the rest. Reports of dropped
        predictions stay. Raises StorageUnavailable.
        """
        deleted, buckets, raw_from = 0, 0, self._store.raw_from()
        range = filters.range(now)
        self._store.remove_halves(filters, range)
        while not filters.request_id and (summarized := self._store.remove_summaries(filters, range)) is not None:
            deleted += summarized
            yield Purged(deleted, buckets, raw_from)
        start: datetime | None = range.start
        while start is not None:
            number, start = self._store.remove_predictions(filters, TimeRange(start, range.end))
            deleted += number
            yield Purged(deleted, buckets, raw_from)
        # The edge may have moved meanwhile: predictions that it passed were removed from the log alone, as it would do.
        raw_from = self._store.raw_from()
        for week in self._weeks_of_aggregates(filters, raw_from):
            buckets += self._store.remove_buckets(filters, week)
            yield Purged(deleted, buckets, raw_from)
        self._store.tidy(filters.model_name)
        yield Purged(deleted, buckets, raw_from, is_complete=True)

    def _weeks_of_aggregates(self, filters: PurgeFilters, raw_from: datetime | None) -> Iterator[TimeRange]:
        start = self._store.first_bucket(filters, raw_from) if raw_from and filters.is_whole_model else None
        while start and raw_from and start < raw_from:
            week = TimeRange(start, min(start + self.WEEK, raw_from))
            yield week
            start = week.end
