"""All models and versions that were ever logged: first and last prediction, counts, and whether they are silent."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol, TypeVar

from app.application.catalogue_places import CatalogueReader, Found, Place, Snapshot, selection_of
from app.application.statistics import GroupKey, Question, Statistics
from app.domain.activity import is_silent
from app.domain.instants import DAY, HOUR, TimeRange
from app.domain.predictions import EARLIEST, FUTURE_TOLERANCE
from app.domain.statistics import GROUP_KEYS, Tally

T = TypeVar("T")
NOTHING = Tally()
NAMES_AT_ONCE = 1000


@dataclass(frozen=True)
class Entry:
    """What is known about one version of a model; a day is 24 hours.

    The places of the first and the last prediction are single instants (level RAW), or the finest buckets that
    retention has left.
    """

    model_name: str
    model_version: str
    first_seen: Place
    last_seen: Place
    last_hour: Tally
    last_day: Tally
    all_time: Tally
    usual_gap: timedelta | None
    is_silent: bool | None


class CatalogueStore(Protocol):
    """The store of the log, its aggregates and the names of all models."""

    def names(
        self, model_names: Sequence[str], search: str | None, after: tuple[str, str] | None, limit: int
    ) -> Sequence[GroupKey]: ...

    def within_snapshot(self, work: Callable[[CatalogueReader], T]) -> T: ...


class Catalogue:
    """All models and versions, page by page, in the order of their names."""

    def __init__(
        self, store: CatalogueStore, statistics: Statistics, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._statistics = statistics
        self._found = Found(monotonic)

    def page(
        self,
        model_names: Sequence[str],
        after: tuple[str, str] | None,
        limit: int,
        now: datetime,
        search: str | None = None,
    ) -> tuple[Sequence[Entry], tuple[str, str] | None]:
        """Return up to `limit` entries after a name and version, and the name and version that the next page is after.

        The latter is None if there are no more. If predictions are deleted while their page is made, it has fewer
        entries, or none, and may still have a next page. `model_names` are the only models to list (all if there are
        none), `search` is a part of their names.
        """
        ever = TimeRange(EARLIEST, now + 2 * FUTURE_TOLERANCE)
        found: dict[GroupKey, Tally] = {}
        wanted = limit + 1
        while True:
            names = self._store.names(model_names, search, after, wanted)
            tallies = self._tallies(names, ever) if names else {}
            found |= {key: tallies[key] for key in names if key in tallies}
            if len(found) > limit or len(names) < wanted:
                break
            # Some names have no prediction left, so look at more names each time.
            after = _place(names[-1])
            wanted = min(2 * wanted, NAMES_AT_ONCE)
        keys = list(found)[:limit]
        entries = self._entries(keys, found, ever, now) if keys else []
        return entries, _place(keys[-1]) if len(found) > limit else None

    def _entries(
        self, keys: Sequence[GroupKey], all_time: Mapping[GroupKey, Tally], ever: TimeRange, now: datetime
    ) -> Sequence[Entry]:
        last_hour, last_day = (self._tallies(keys, replace(ever, start=start)) for start in (now - HOUR, now - DAY))
        traces = self._store.within_snapshot(lambda reader: Snapshot(reader, ever, now, self._found).traces(keys))
        return [
            Entry(
                model_name=str(key.model_name),
                model_version=str(key.model_version),
                first_seen=trace.first,
                last_seen=trace.last,
                last_hour=last_hour.get(key, NOTHING),
                last_day=last_day.get(key, NOTHING),
                all_time=all_time[key],
                usual_gap=trace.gap,
                is_silent=is_silent(trace.last.range.start + trace.last.accuracy, trace.gap, now),
            )
            for key, trace in traces.items()  # without those that were deleted since
        ]

    def _tallies(self, keys: Sequence[GroupKey], time_range: TimeRange) -> Mapping[GroupKey, Tally]:
        question = Question(selection_of(keys), time_range, GROUP_KEYS)
        return {key: tally for key, tally in self._statistics.ask(question).tallies.items() if tally.total}


def _place(key: GroupKey) -> tuple[str, str]:
    return str(key.model_name), str(key.model_version)
