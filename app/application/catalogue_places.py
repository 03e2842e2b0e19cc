"""Where the first and the last prediction of each model and version are, narrowed down from day to row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import Protocol

from app.application.statistics import GroupKey
from app.domain.activity import LOOK_BACK, Activity, usual_gap
from app.domain.cover import COARSE_TO_FINE, DAYS, HOURS, MINUTES, RAW, Level, Materialized, Segment, cover
from app.domain.instants import TimeRange, floor
from app.domain.statistics import Selection

KEPT_S = 60.0
MAX_PLACES = 10_000


@dataclass(frozen=True)
class Place:
    """A bucket of a level that holds the first prediction of a model and version, or the last one.

    `predictions` is how many the bucket has in which the search began: with a later summary it is another search.
    """

    key: GroupKey
    level: Level
    range: TimeRange
    is_last: bool
    predictions: int = 0

    @classmethod
    def of(cls, key: GroupKey, activity: Activity, *, is_last: bool) -> Place:
        """Return the place for the first or the last bucket of the activity."""
        bucket = (max if is_last else min)(activity.predictions)
        start, level = datetime.fromtimestamp(bucket, timezone.utc), activity.level
        return cls(key, level, TimeRange(start, start + level.width), is_last, activity.predictions[bucket])

    @property
    def accuracy(self) -> timedelta:
        """How much later than the start of the range the prediction may be; zero if its row was found."""
        return self.level.width

    def found(self, at: datetime | None, level: Level, within: Place) -> Place:
        """Return the bucket of the finer level that begins at `at`; the rest of `within` if this part has none."""
        if at is not None:
            return replace(self, level=level, range=TimeRange(at, at + level.width))
        rest = TimeRange(self.range.end, within.range.end)
        return replace(within, range=rest) if rest else within


class CatalogueReader(Protocol):
    """Reads within one snapshot."""

    def state(self, time_range: TimeRange) -> Materialized: ...

    def activity(
        self, selection: Selection, level: Level, segments: Sequence[Segment]
    ) -> Mapping[GroupKey, Activity]: ...

    def look_up(self, level: Level, places: Sequence[Place]) -> Sequence[datetime | None]: ...


def selection_of(keys: Sequence[GroupKey]) -> Selection:
    """Select these models and versions, and few others, because neighbours in the list share names or versions."""
    names = {str(key.model_name) for key in keys}
    versions = {str(key.model_version) for key in keys}
    return Selection(tuple(sorted(names)), model_versions=tuple(sorted(versions)))


@dataclass(frozen=True)
class Trace:
    """The places of the first and the last prediction of one version, and its usual gap."""

    first: Place
    last: Place
    gap: timedelta | None


class Found:
    """The places that were found in valid buckets, which stay unchanged for a generation of the aggregates.

    They are kept for KEPT_S seconds at most, because a restored database may count the same generations again.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._generation: int | None = None
        self._begun_at = 0.0
        self._places: dict[Place, Place] = {}

    def of(self, generation: int | None) -> dict[Place, Place]:
        """Return the places of this generation; the caller reads and adds to them."""
        is_old = self._monotonic() - self._begun_at > KEPT_S
        if generation is None or generation != self._generation or is_old or len(self._places) > MAX_PLACES:
            self._generation, self._begun_at, self._places = generation, self._monotonic(), {}
        return self._places


class Snapshot:
    """The log as it is at one moment."""

    def __init__(self, reader: CatalogueReader, ever: TimeRange, now: datetime, found: Found) -> None:
        self._reader = reader
        self._ever = ever
        self._now = now
        self._state = reader.state(ever)
        self._found = found.of(self._state.generation)

    def traces(self, keys: Sequence[GroupKey]) -> Mapping[GroupKey, Trace]:
        """Return the first and last place and the usual gap of each key that still has predictions."""
        selection = selection_of(keys)
        activities = {level: self._activity(selection, level) for level in LOOK_BACK}
        days, minutes = activities[DAYS], activities[MINUTES]
        keys = [key for key in keys if key in days]
        first = [Place.of(key, days[key], is_last=False) for key in keys]
        last = [Place.of(key, minutes.get(key, days[key]), is_last=True) for key in keys]
        found = self._find([*first, *last])
        gaps = [usual_gap([activity[key] for activity in activities.values() if key in activity]) for key in keys]
        return dict(zip(keys, map(Trace, found, found[len(keys) :], gaps)))

    def _activity(self, selection: Selection, level: Level) -> Mapping[GroupKey, Activity]:
        back = LOOK_BACK[level]
        start = floor(self._now - back, level.width) if back else self._ever.start
        levels = [finer for finer in COARSE_TO_FINE if finer.width <= level.width]
        return self._reader.activity(selection, level, cover(replace(self._ever, start=start), self._state, levels))

    def _find(self, places: Sequence[Place]) -> Sequence[Place]:
        """Narrow each place down as far as retention allows: to the hour, to the minute, to the row."""
        known = {place: self._found[place] for place in places if place in self._found and self._is_valid(place)}
        unknown = [place for place in places if place not in known]
        narrowed: Sequence[Place] = unknown
        for level in (HOURS, MINUTES, RAW):
            narrowed = self._narrowed(narrowed, level)
        now_known = dict(zip(unknown, narrowed))
        self._found.update({place: found for place, found in now_known.items() if self._is_valid(place)})
        return [(known | now_known)[place] for place in places]

    def _narrowed(self, places: Sequence[Place], level: Level) -> Sequence[Place]:
        searched = [self._searchable(place, level) for place in places]
        wanted = [place for place in searched if place]
        found = dict(zip(wanted, self._reader.look_up(level, wanted)))
        return [part.found(found[part], level, place) if part else place for place, part in zip(places, searched)]

    def _searchable(self, place: Place, level: Level) -> Place | None:
        """Return the part of a place for which the level is complete; None if there is none."""
        if place.level.width <= level.width or not self._state.reaches(level, place.range.start):
            return None
        if level is RAW:
            return place
        if any(place.range.overlaps(part) for part in self._state.invalidations):
            return None
        # Only whole buckets are materialised: the current hour is missing, though its first minutes are there.
        part = place.range.intersection(TimeRange(self._ever.start, floor(self._state.up_to, level.width)))
        if place.is_last and part != place.range:
            return None  # a later prediction may be in the rest
        return replace(place, range=part) if part else None

    def _is_valid(self, place: Place) -> bool:
        return self._state.supports([Segment(place.level, place.range)])
