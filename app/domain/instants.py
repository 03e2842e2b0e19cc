"""Points in time, ranges of time, and how people write them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from app.domain.errors import InvalidInput

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)

_INSTANT = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ]((?:[01]\d|2[0-3]):\d\d)(:\d\d)?(?:[.,](\d{1,9}))?(?:([Zz])|([+-]\d\d):?([0-5]\d)?)?",
    re.ASCII,
)
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


@dataclass(frozen=True, order=True)
class TimeRange:
    """A half-open range of time: `start` belongs to it, `end` does not."""

    start: datetime
    end: datetime

    def __bool__(self) -> bool:
        return self.start < self.end

    @property
    def length(self) -> timedelta:
        """How long the range is."""
        return self.end - self.start

    def overlaps(self, other: TimeRange) -> bool:
        """Whether the two share at least one instant."""
        return max(self.start, other.start) < min(self.end, other.end)

    def intersection(self, other: TimeRange) -> TimeRange:
        """What both have in common; empty (false) where that is nothing."""
        return TimeRange(max(self.start, other.start), min(self.end, other.end))

    def minus(self, holes: list[TimeRange]) -> Iterator[TimeRange]:
        """Yield what is left of the range without `holes`, in order; `holes` are sorted by their starts."""
        start = self.start
        for hole in holes:
            if hole.end <= start or hole.start >= self.end:
                continue
            if start < hole.start:
                yield TimeRange(start, hole.start)
            start = hole.end
        if start < self.end:
            yield TimeRange(start, self.end)


def floor(instant: datetime, width: timedelta) -> datetime:
    """The last multiple of `width` since 1970 in UTC that is not after `instant`."""
    return instant - (instant - EPOCH) % width


def ceiling(instant: datetime, width: timedelta) -> datetime:
    """The first multiple of `width` since 1970 in UTC that is not before `instant`."""
    return instant + (EPOCH - instant) % width


def parse_instant(text: str) -> datetime:
    """Read an ISO 8601 date and time as an aware datetime in UTC; without an offset it is UTC.

    Digits beyond microseconds are rounded. Raises ValueError with a sentence.
    """
    match = _INSTANT.fullmatch(text)
    if match is None:
        raise ValueError("Not a valid ISO 8601 date and time.")
    day, minutes, seconds, fraction, zulu, hours_east, minutes_east = match.groups()
    if fraction and not seconds:
        raise ValueError("Not a valid ISO 8601 date and time.")
    offset = "+00:00" if zulu or not hours_east else f"{hours_east}:{minutes_east or '00'}"
    nanoseconds = int((fraction or "0").ljust(9, "0"))
    try:
        parsed = datetime.fromisoformat(f"{day}T{minutes}{seconds or ':00'}{offset}")
        return parsed.astimezone(timezone.utc) + timedelta(microseconds=(nanoseconds + 500) // 1000)
    except (ValueError, OverflowError):
        raise ValueError("Not a valid date and time: there is no such moment in the calendar.") from None


@lru_cache
def parse_zone(name: str) -> tzinfo:
    """Find a time zone of the IANA data base. Raises ValueError with a sentence."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("Not a time zone of the IANA data base (as in Europe/Berlin).") from None


def is_date(text: str) -> bool:
    """Whether a bound is written as a date, and not as an instant."""
    return _DATE.fullmatch(text) is not None


def parse_bound(field: str, text: str, zone: tzinfo, *, is_end: bool) -> datetime:
    """Read a date or an instant as the bound of a half-open range.

    A date stands for the local day in `zone`, which an end includes whole. Raises InvalidInput.
    """
    try:
        if not _DATE.fullmatch(text):
            return parse_instant(text)
        day = date.fromisoformat(text)
        return local_midnight(day + DAY if is_end else day, zone)
    except OverflowError:
        raise InvalidInput(field, "Must lie within the years 1 to 9999.") from None
    except ValueError as error:
        reason = str(error) if not _DATE.fullmatch(text) else "There is no such day in the calendar."
        raise InvalidInput(field, f"{reason} Expected a date or an ISO 8601 instant.") from None


def local_midnight(day: date, zone: tzinfo) -> datetime:
    """The first instant of a local day, in UTC.

    Of a midnight that comes twice it is the first; one that the clock skips is read with the offset before the
    gap (fold=0), which is the instant at which the gap ends.
    """
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(timezone.utc)
