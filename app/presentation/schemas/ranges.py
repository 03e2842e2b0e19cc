"""Models and ranges: the parameters that all questions about many predictions share."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import marshmallow as ma
from marshmallow.validate import Length
from webargs.fields import DelimitedList

from app.domain.errors import InvalidInput
from app.domain.instants import DAY, FIRST, TimeRange, is_date, parse_bound
from app.domain.predictions import EARLIEST, FUTURE_TOLERANCE, MAX_MODEL_NAME_LENGTH
from app.domain.statistics import DEFAULT_PERCENTILES, Selection
from app.presentation.middleware.authentication import readable
from app.presentation.schemas.fields import QueryNumber, bound, name, version, zone

MAX_MODELS = 50
MAX_PERCENTILES = 20


class Percentile(QueryNumber):
    """A number from 0 to 100."""

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> float:
        number = super()._deserialize(value, *args, **kwargs)
        if not 0 <= number <= 100:
            raise ma.ValidationError("Must be between 0 and 100.")
        return number


class SelectionSchema(ma.Schema):
    """The predictions to look at."""

    model_name = ma.fields.List(
        name(MAX_MODEL_NAME_LENGTH),
        load_default=[],
        validate=Length(max=MAX_MODELS, error=f"At most {MAX_MODELS} models."),
        metadata={
            "description": "Only predictions of this model; repeat it for several.",
            "example": ["apartment_price_v1"],
        },
    )
    model_version = version("Only predictions of this version; empty: only those without one.")
    timezone = zone("IANA time zone of the dates and of days in a series.")
    percentiles = DelimitedList(
        Percentile(metadata={"minimum": 0, "maximum": 100}),
        load_default=list(DEFAULT_PERCENTILES),
        validate=Length(max=MAX_PERCENTILES, error=f"At most {MAX_PERCENTILES} percentiles."),
        metadata={
            "description": "Which percentiles of the duration, 0 to 100.",
            "default": [50, 90, 95, 99],
            "example": [50, 90, 95, 99],
        },
    )


class RangeSchema(SelectionSchema):
    """The predictions to look at, and their range."""

    from_date = bound("First day, or first instant. Default: the beginning.", example="2025-06-01")
    to_date = bound("Last day (included), or an instant (not included). Default: now.", example="2025-06-09")
    start = bound("The same as `from_date`.", data_key="from")
    end = bound("The same as `to_date`.", data_key="to")

    def beginning(self, end: datetime, data: dict[str, Any]) -> datetime:
        """Return the default beginning of a range that ends at `end`; `data` are the other parameters."""
        return min(EARLIEST, end)

    @ma.post_load
    def to_question(self, data: dict[str, Any], **_: Any) -> dict[str, Any]:
        zone = data.pop("timezone")
        start = _bound(data, "from_date", "from", "start")
        end = _bound(data, "to_date", "to", "end")
        until = parse_bound(*end, zone, is_end=True) if end else open_end()
        range = TimeRange(parse_bound(*start, zone, is_end=False) if start else self.beginning(until, data), until)
        check_order(start, end, range)
        selection = Selection(readable(data.pop("model_name")), data.pop("model_version", None))
        return {"selection": selection, "range": range, "zone": zone, **data}


def _bound(data: dict[str, Any], name: str, alias: str, attribute: str) -> tuple[str, str] | None:
    """Return the text of a bound and the name of its parameter; None if it was not sent."""
    if name in data and attribute in data:
        raise InvalidInput(alias, f"Given twice: `{name}` and `{alias}` are the same.")
    sent = [(name, data.pop(name))] if name in data else [(alias, data.pop(attribute))] if attribute in data else []
    return sent[0] if sent else None


def day_before(end: datetime) -> datetime:
    """Return the default beginning of a series, a day before its end."""
    return end - min(DAY, end - FIRST)


def check_order(start: tuple[str, str] | None, end: tuple[str, str] | None, time_range: TimeRange) -> None:
    """Raise InvalidInput if a range ends before it begins; a range of instants may be empty, a range of days not."""
    days = end is not None and is_date(end[1])
    if start and (time_range.start > time_range.end or (days and time_range.start == time_range.end)):
        raise InvalidInput(start[0], "Must not be after the end of the range.")


def open_end() -> datetime:
    """Return the end of an open range: after the latest time that may have been logged by now."""
    return datetime.now(timezone.utc).replace(second=0, microsecond=0) + FUTURE_TOLERANCE + timedelta(minutes=1)
