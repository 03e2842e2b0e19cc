"""Every model and version that was ever logged: since when, how often, how well, and whether it still is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import Protocol, TypeVar

from app.application.statistics import Key, Question, StatisticsReader
from app.domain.activity import LOOK_BACK, Activity, is_silent, usual_gap
from app.domain.cover import COARSE_TO_FINE, DAYS, MINUTES, RAW, Level, Materialized, Segment, answerable, cover
from app.domain.instants import DAY, HOUR, TimeRange, floor
from app.domain.predictions import EARLIEST, FUTURE_TOLERANCE
from app.domain.statistics import GROUP_KEYS, Selection, Tally

T = TypeVar("T")


@dataclass(frozen=True)
class Place:
    """Where to look for the first call of a model and version, or for the last: in a bucket of this level."""

    key: Key
    level: Level
    range: TimeRange
    is_last: bool

    @property
    def accuracy(self) -> timedelta:
        """How much later than the start of the range the call may have been; zero where it was found itself."""
        return self.level.width

    def found(self, at: datetime | None, level: Level, within: Place) -> Place:
        """The bucket of the finer level where this part of a place was searched, or else the rest of that place."""
        if at is not None:
            return replace(self, level=level, range=TimeRange(at, at + level.width))
        rest = TimeRange(self.range.end, within.range.end)
        return replace(within, range=rest) if rest else within


@dataclass(frozen=True)
class Entry:
    """What is known about one version of a model at one moment.

    `last_hour` and `last_day` (24 hours) have latencies, `all_time` has none. The places of the first and the last call
    are single instants (level RAW), or the finest buckets that retention has left.
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


class CatalogueReader(StatisticsReader, Protocol):
    """Reads within one snapshot."""

    def activity(
        self, model_names: Sequence[str], level: Level, segments: Sequence[Segment]
    ) -> Mapping[Key, Activity]: ...

    def look_up(self, level: Level, places: Sequence[Place]) -> Sequence[datetime | None]: ...


class CatalogueStore(Protocol):
    """Where the log and its aggregates are kept."""

    def within_snapshot(self, work: Callable[[CatalogueReader], T]) -> T: ...


class Catalogue:
    """All models and versions, page by page, in the order of their names."""

    def __init__(self, store: CatalogueStore) -> None:
        self._store = store

    def page(
        self, model_names: Sequence[str], after: tuple[str, str] | None, limit: int, now: datetime
    ) -> tuple[Sequence[Entry], bool]:
        """Return up to `limit` entries after a name and version, and whether there are more; all of one moment."""
        return self._store.within_snapshot(lambda reader: _Moment(reader, now).page(model_names, after, limit))


class _Moment:
    """The log as it is in one snapshot."""

    def __init__(self, reader: CatalogueReader, now: datetime) -> None:
        self._reader = reader
        self._now = now
        self._ever = TimeRange(EARLIEST, now + 2 * FUTURE_TOLERANCE)
        self._state: Materialized = reader.state(self._ever)

    def page(
        self, model_names: Sequence[str], after: tuple[str, str] | None, limit: int
    ) -> tuple[Sequence[Entry], bool]:
        totals = self._count(model_names, self._ever, latency=False)
        keys = sorted(key for key in totals if after is None or key[1:] > after)
        return self._entries(keys[:limit], totals), len(keys) > limit

    def _entries(self, keys: Sequence[Key], totals: Mapping[Key, Tally]) -> Sequence[Entry]:
        names = sorted({str(key.model_name) for key in keys})
        if not names:
            return []
        last_hour, last_day = self._latest(names)
        activities = {level: self._activity(names, level) for level in LOOK_BACK}
        first = self._find([_first(key, activities) for key in keys])
        last = self._find([_last(key, activities) for key in keys])
        entries = []
        for key, first_seen, last_seen in zip(keys, first, last):
            gap = usual_gap([activities[level][key] for level in LOOK_BACK if key in activities[level]])
            entries.append(
                Entry(
                    model_name=str(key.model_name),
                    model_version=str(key.model_version),
                    first_seen=first_seen,
                    last_seen=last_seen,
                    last_hour=last_hour.get(key, Tally()),
                    last_day=last_day.get(key, Tally()),
                    all_time=totals[key],
                    usual_gap=gap,
                    is_silent=is_silent(last_seen.range.start + last_seen.accuracy, gap, self._now),
                )
            )
        return entries

    def _count(self, model_names: Sequence[str], range: TimeRange, *, latency: bool) -> Mapping[Key, Tally]:
        question = Question(Selection(tuple(model_names)), range, GROUP_KEYS, latency=latency)
        range = answerable(range, self._state)
        tallies = self._reader.read(question, range, cover(range, self._state)).tallies
        return {key: tally for key, tally in tallies.items() if tally.total}

    def _latest(self, names: Sequence[str]) -> tuple[Mapping[Key, Tally], Mapping[Key, Tally]]:
        """The last hour and the last 24, of which the hour is read once."""
        hour_ago = answerable(TimeRange(self._now - HOUR, self._ever.end), self._state).start
        last_hour = self._count(names, TimeRange(hour_ago, self._ever.end), latency=True)
        last_day = dict(self._count(names, TimeRange(self._now - DAY, hour_ago), latency=True))
        for key, tally in last_hour.items():
            together = Tally()
            together.merge(last_day.get(key, Tally()))
            together.merge(tally)
            last_day[key] = together
        return last_hour, last_day

    def _activity(self, names: Sequence[str], level: Level) -> Mapping[Key, Activity]:
        back = LOOK_BACK[level]
        start = floor(self._now - back, level.width) if back else self._ever.start
        levels = [finer for finer in COARSE_TO_FINE if finer.width <= level.width]
        return self._reader.activity(names, level, cover(replace(self._ever, start=start), self._state, levels))

    def _find(self, places: Sequence[Place]) -> Sequence[Place]:
        """Narrow each place down to the instant itself, as far as retention lets: through the minutes to the row."""
        for level in (MINUTES, RAW):
            places = self._narrowed(places, level)
        return places

    def _narrowed(self, places: Sequence[Place], level: Level) -> Sequence[Place]:
        searched = [self._searchable(place, level) for place in places]
        wanted = [place for place in searched if place]
        found = dict(zip(wanted, self._reader.look_up(level, wanted)))
        return [part.found(found[part], level, place) if part else place for place, part in zip(places, searched)]

    def _searchable(self, place: Place, level: Level) -> Place | None:
        """The part of a place where the level has all that there was."""
        if place.level.width <= level.width or not self._state.reaches(level, place.range.start):
            return None
        if level is RAW:
            return place
        if any(place.range.overlaps(change) for change in self._state.changed):
            return None
        part = place.range.intersection(TimeRange(self._ever.start, self._state.up_to))
        return replace(place, range=part) if part else None


def _first(key: Key, activities: Mapping[Level, Mapping[Key, Activity]]) -> Place:
    return _place(key, DAYS, min(activities[DAYS][key].calls), is_last=False)


def _last(key: Key, activities: Mapping[Level, Mapping[Key, Activity]]) -> Place:
    level = MINUTES if key in activities[MINUTES] else DAYS
    return _place(key, level, max(activities[level][key].calls), is_last=True)


def _place(key: Key, level: Level, bucket: int, *, is_last: bool) -> Place:
    start = datetime.fromtimestamp(bucket, timezone.utc)
    return Place(key, level, TimeRange(start, start + level.width), is_last)
