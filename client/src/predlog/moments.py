"""The moment of a prediction, in all the ways that people have one."""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta, timezone
from typing import Any, Protocol, SupportsFloat, Union


class Datetime64(Protocol):
    """numpy.datetime64."""

    def astype(self, dtype: Any, /) -> Any:
        """Convert to a unit."""


Timestamp = Union[datetime, date, str, SupportsFloat, Datetime64]

MINUTE_NS = 60_000_000_000
EARLIEST = datetime(2000, 1, 1, tzinfo=timezone.utc)  # the service keeps nothing older

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_ISO = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d)(:\d\d)?(?:[.,](\d+))?\s*(?:(Z)|([+-]\d\d):?(\d\d)?)?)?",
    re.ASCII | re.IGNORECASE,
)


def moment(value: Any) -> datetime:
    """The moment in UTC; without an offset it is UTC, as the service reads it. Raises ValueError.

    value: a datetime, a date (its midnight), ISO 8601 text, seconds since 1970, or a numpy.datetime64.
    """
    try:
        found = _moment(value)
        if found < EARLIEST:
            raise ValueError("before the year 2000")
    except (TypeError, AttributeError, ArithmeticError) as error:  # pandas.NaT is a datetime whose year is NaN
        raise ValueError(f"not a time ({type(error).__name__})") from None
    return found


def written(found: datetime) -> str:
    """A moment as the service reads it."""
    return found.isoformat(timespec="microseconds")


def _moment(value: Any) -> datetime:
    if isinstance(value, datetime):
        return _utc(value)
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=timezone.utc)
    if isinstance(value, str):
        return _parse(value)
    if type(value).__name__ == "datetime64":
        return _moment(value.astype("datetime64[us]").item())
    if isinstance(value, (bool, bytes)):
        raise TypeError
    return _EPOCH + timedelta(seconds=float(value))


def _utc(value: datetime) -> datetime:
    """A datetime of the standard library, whatever a subclass makes of its methods."""
    parts = (value.year, value.month, value.day, value.hour, value.minute, value.second, value.microsecond)
    if value.tzinfo is None:
        return datetime(*parts, tzinfo=timezone.utc)
    return datetime(*parts, tzinfo=value.tzinfo, fold=value.fold).astimezone(timezone.utc)


def _parse(text: str) -> datetime:
    match = _ISO.fullmatch(text.strip())
    if match is None:
        raise ValueError("not ISO 8601")
    day, clock, seconds, fraction, _zulu, hours, minutes = match.groups()
    # Spelled as Python 3.9 reads it.
    offset = f"{hours}:{minutes or '00'}" if hours else "+00:00"
    rest = f"{clock}{seconds or ':00'}.{(fraction or '')[:6]:0<6}{offset}" if clock else "00:00:00+00:00"
    return _utc(datetime.fromisoformat(f"{day}T{rest}"))
