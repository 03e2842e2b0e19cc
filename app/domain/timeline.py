"""Divide a range of time into the points of a series, in any time zone."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone, tzinfo
from itertools import islice

from app.domain.errors import InvalidInput
from app.domain.instants import DAY, EPOCH, HOUR, TimeRange
from app.domain.statistics import Series

BUCKETS = {
    "1m": timedelta(minutes=1),
    "5m": timedelta(minutes=5),
    "15m": timedelta(minutes=15),
    "1h": timedelta(hours=1),
    "6h": timedelta(hours=6),
    "1d": DAY,
}
MAX_POINTS = 2000
POINTS_WANTED = 60
_WALL_ORIGIN = datetime(1970, 1, 1)


def choose_bucket(time_range: TimeRange) -> str:
    """The bucket that divides the range into the number of points closest to POINTS_WANTED."""
    return min(BUCKETS, key=lambda name: abs(time_range.length / BUCKETS[name] - POINTS_WANTED))


def timeline(time_range: TimeRange, bucket: str, zone: tzinfo) -> Series:
    """Divide the range into points that begin at full buckets of the zone's clock; the range cuts the first and last.

    Points of an hour or less are all of the same length, also when the clock is set back and shows an hour twice.
    Points of six hours and of a day follow the clock, and are shorter or longer when the clock changes.
    Raises InvalidInput if there would be more than MAX_POINTS.
    """
    width = BUCKETS[bucket]
    edges = tuple(islice(_edges(time_range, width, zone), MAX_POINTS + 2))
    if len(edges) > MAX_POINTS + 1:
        advice = "a shorter range" if width == max(BUCKETS.values()) else "a longer bucket"
        raise InvalidInput("bucket", f"{bucket} divides this range into more than {MAX_POINTS} points; take {advice}.")
    return Series(edges)


def _edges(time_range: TimeRange, width: timedelta, zone: tzinfo) -> Iterator[datetime]:
    yield time_range.start
    if not time_range:
        return
    offset = zone.utcoffset(None)
    if offset is not None:  # the same all year
        yield from _even_edges(time_range, width, offset)
    else:
        yield from _edges_of_a_clock(time_range, width, zone)
    yield time_range.end


def _even_edges(time_range: TimeRange, width: timedelta, offset: timedelta) -> Iterator[datetime]:
    try:
        edge = time_range.start + width - (time_range.start - EPOCH + offset) % width
        while edge < time_range.end:
            yield edge
            edge += width
    except OverflowError:  # the last bucket of year 9999 has no end that could be written
        return


def _edges_of_a_clock(time_range: TimeRange, width: timedelta, zone: tzinfo) -> Iterator[datetime]:
    following = _next_by_length if width <= HOUR else _next_by_clock
    try:
        edge = following(time_range.start, width, zone)
        while edge < time_range.end:
            yield edge
            edge = following(edge, width, zone)
    except OverflowError:  # the bucket would end after year 9999, or the zone's clock shows a year beyond it
        return


def _next_by_length(instant: datetime, width: timedelta, zone: tzinfo) -> datetime:
    wall = instant.astimezone(zone)
    return instant + width - (wall.replace(tzinfo=None) - _WALL_ORIGIN) % width


def _next_by_clock(instant: datetime, width: timedelta, zone: tzinfo) -> datetime:
    wall = instant.astimezone(zone).replace(tzinfo=None)
    edge = wall - (wall - _WALL_ORIGIN) % width
    while True:  # runs twice only if the clock was set back across an edge
        edge += width
        following = edge.replace(tzinfo=zone).astimezone(timezone.utc)
        if following > instant:
            return following
