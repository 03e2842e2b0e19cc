"""Marshmallow fields that accept exactly the values that the API promises, and return them as they were sent."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from typing import Any
from uuid import UUID

from marshmallow import ValidationError, fields
from marshmallow.validate import Length

from app.domain.instants import parse_instant, parse_query_zone
from app.domain.predictions import (
    MAX_MODEL_VERSION_LENGTH,
    duration_problem,
    metadata_json,
    shortest_number,
    text_problem,
)

_BEYOND_NANOSECONDS = re.compile(r"(?<=[.,]\d{9})\d+", re.ASCII)
_UUID = re.compile(r"(urn:)?(uuid:)?\{?[0-9a-f-]{32,45}\}?", re.ASCII | re.IGNORECASE)


class Text(fields.String):
    """A string that PostgreSQL can keep."""

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> str:
        text: str = super()._deserialize(value, *args, **kwargs)
        if problem := text_problem(text):
            raise ValidationError(problem)
        return text


def name(length: int, **kwargs: Any) -> Text:
    """A name of 1 to `length` characters."""
    return Text(validate=Length(min=1, max=length), **kwargs)


def version(description: str, **metadata: Any) -> Text:
    """The version of a model as a filter; the empty one stands for predictions that were logged without a version."""
    return Text(validate=Length(max=MAX_MODEL_VERSION_LENGTH), metadata={"description": description, **metadata})


class Zone(Text):
    """A time zone of the IANA data base, by its name."""

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return parse_query_zone(super()._deserialize(value, *args, **kwargs))
        except ValueError as error:
            raise ValidationError(str(error)) from None


def zone(description: str) -> Zone:
    """The time zone that dates are meant in; UTC if it is not given."""
    return Zone(
        load_default=timezone.utc,
        metadata={"description": description, "default": "UTC", "example": "Europe/Berlin", "format": "time-zone"},
    )


def bound(description: str, data_key: str | None = None, **metadata: str) -> Text:
    """The bound of a range as it is written: a date, or an ISO 8601 instant."""
    formats = [{"format": "date"}, {"format": "date-time"}]
    return Text(data_key=data_key, metadata={"description": description, "anyOf": formats, **metadata})


class Identifier(fields.UUID):
    """A UUID as people write it: Python alone would also take spaces, 0x, 1_0 and other scripts' digits."""

    def _validated(self, value: Any) -> UUID:
        if not (isinstance(value, str) and _UUID.fullmatch(value)):
            raise self.make_error("invalid_uuid")
        return super()._validated(value)


class Instant(fields.Field[datetime]):
    """An ISO 8601 date and time; without an offset it is UTC. Written in UTC with its offset."""

    def _serialize(self, value: datetime | None, attr: str | None, obj: Any, **kwargs: Any) -> str | None:
        return None if value is None else value.isoformat()

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> datetime:
        if not isinstance(value, str):
            raise ValidationError("Not a string with an ISO 8601 date and time.")
        try:
            return parse_instant(_BEYOND_NANOSECONDS.sub("", value))
        except ValueError as error:
            raise ValidationError(str(error)) from None


class Milliseconds(fields.Field[float]):
    """A finite, non-negative number of milliseconds; 124 comes back as 124, 0.35 as 0.35."""

    def _serialize(self, value: float | None, attr: str | None, obj: Any, **kwargs: Any) -> int | float | None:
        return None if value is None else shortest_number(value)

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ValidationError("Not a number.")
        try:
            number = float(value)
        except OverflowError:
            number = float("inf")
        if problem := duration_problem(number):
            raise ValidationError(problem)
        return number


def plain_number(value: Any) -> Any:
    """Return text that people read as a number, too: Python would also accept 1_0, spaces and other scripts' digits."""
    if isinstance(value, str) and not re.fullmatch(r"[0-9.eE+-]+", value, re.ASCII):
        raise ValidationError("Not a valid number.")
    return value


class QueryInteger(fields.Integer):
    """A whole number in a query string or a path."""

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> int:
        if not re.fullmatch(r"-?[0-9]+", str(value), re.ASCII):
            raise ValidationError("Not a valid integer.")
        return int(super()._deserialize(value, *args, **kwargs))


class QueryNumber(fields.Float):
    """A number in a query string."""

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> float:
        return float(super()._deserialize(plain_number(value), *args, **kwargs))


class QueryMilliseconds(Milliseconds):
    """The same as Milliseconds in a query string, where everything is text."""

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> float:
        try:
            number = float(plain_number(value))
        except ValueError:
            raise ValidationError("Not a number.") from None
        return super()._deserialize(number, *args, **kwargs)


class JsonBoolean(fields.Boolean):
    """true or false, and nothing that merely looks like it."""

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> bool:
        if not isinstance(value, bool):
            raise ValidationError("Not a JSON boolean (true or false).")
        return value


class Metadata(fields.Dict):
    """A JSON object of at most MAX_METADATA_BYTES bytes, counted as compact JSON in UTF-8."""

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        if not isinstance(value, dict):
            raise ValidationError("Not a JSON object.")
        try:
            metadata_json(value)
        except ValueError as error:
            raise ValidationError(str(error)) from None
        return value
