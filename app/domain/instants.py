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
# In a query string + stands for a space. A space after the time of day can only have been the + of an offset.
_LOST_PLUS = re.compile(r"^(\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(?::\d\d(?:[.,]\d{1,9})?)?) (?=\d\d(?::?\d\d)?\Z)", re.ASCII)
_SLIPS = tuple(
    (re.compile(pattern, re.ASCII), hint)
    for pattern, hint in (
        (r".*%.*", "; it is percent-encoded twice: + is %2B, and : may stay as it is"),
        (
            r".*\d:\d\S* +[+]?\d\d(:?\d\d)?",
            "; the + of an offset is %2B in an address, or write UTC with Z",
        ),
        (r"-?\d{9,11}(\.\d+)?", "; not seconds since 1970"),
        (r"-?\d{12,20}", "; not milliseconds since 1970"),
        (r"[\"'].*[\"']", " without quotes"),
        (r"\d{1,2}[./]\d{1,2}[./]\d{4}", " as in 2025-06-09"),
        (r"\s.*|.*\s", " without spaces around it"),
        (r"\d{8}(T.*)?|\d{4}[-./]\d{1,2}([-./]\d{1,2}.*)?", " as in 2025-06-09 or 2025-06-09T12:00:00Z"),
    )
)


# A datetime holds the years 1 to 9999 only.
FIRST = datetime.min.replace(tzinfo=timezone.utc)
LAST = datetime.max.replace(tzinfo=timezone.utc)


class BeyondTheCalendar(ValueError):
    """A moment that in UTC is before the year 1 or after 9999; `nearest` is the closest moment in the calendar."""

    def __init__(self, day: str) -> None:
        super().__init__("Not a valid date and time: there is no such moment in the calendar.")
        self.nearest = FIRST if day < "5000" else LAST


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
        """Return the common part; it is empty (false) if there is none."""
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
    """Return the last multiple of `width` since 1970 in UTC that is not after `instant`."""
    return instant - (instant - EPOCH) % width


def ceiling(instant: datetime, width: timedelta) -> datetime:
    """Return the first multiple of `width` since 1970 in UTC that is not before `instant`."""
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
    except OverflowError:
        raise BeyondTheCalendar(day) from None
    except ValueError:
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
    """Read a date or an instant of a query string as the bound of a half-open range.

    A date stands for the local day in `zone`; an end includes the whole day. A bound beyond the years 1 to 9999 of UTC
    becomes the first or the last moment of them. Raises InvalidInput, which names `field`.
    """
    text = with_plus(text)
    try:
        if not _DATE.fullmatch(text):
            return parse_instant(text)
        day = date.fromisoformat(text)
        try:
            return local_midnight(day + DAY if is_end else day, zone)
        except OverflowError:
            raise BeyondTheCalendar(text) from None
    except BeyondTheCalendar as beyond:
        return beyond.nearest
    except ValueError as error:
        reason = "There is no such day in the calendar." if _DATE.fullmatch(text) else str(error)
        raise InvalidInput(field, f"{reason} Expected a date or an ISO 8601 instant{_hint(text)}.") from None


def with_plus(text: str) -> str:
    """Return an instant of a query string with the + of its offset, which arrives as a space if it is not encoded."""
    return _LOST_PLUS.sub(r"\1+", text)


def parse_query_zone(name: str) -> tzinfo:
    """Find the time zone that a query string names. Raises ValueError with a sentence."""
    return parse_zone(name.replace(" ", "+"))  # no name has a space: a + that is not encoded arrives as one


def _hint(text: str) -> str:
    """Return advice on the spelling, if the sender's intention can be guessed."""
    return next((hint for slip, hint in _SLIPS if slip.fullmatch(text) and not _DATE.fullmatch(text)), "")


def local_midnight(day: date, zone: tzinfo) -> datetime:
    """The first instant of a local day, in UTC.

    If midnight comes twice, it is the first one. If the clock skips midnight, it is read with the offset before the
    gap (fold=0), which is the instant at which the gap ends.
    """
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(timezone.utc)
