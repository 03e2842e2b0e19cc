"""One logged call: a plain tuple while it waits, one line of JSON when it leaves."""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from predlog import uuid7
from predlog.text import ERROR_CHARACTERS, NAME_CHARACTERS, clean, describe, metadata_json

# time_ns, random bits, model_name, duration_ms, was_successful, version, error, metadata, timestamp, request_id.
# A tuple, because making a class instance would double the cost of log() for its caller.
Record = tuple[int, int, Any, Any, Any, Any, Any, Any, Any, Any]
SUCCESS = 4

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


class InvalidRecord(ValueError):
    """The record can never be stored; the text names the field and never its value."""


def encode(record: Record) -> bytes:
    """The record as one line of UTF-8 JSON without its line end; raises InvalidRecord."""
    time_ns, bits, name, duration, success, version, error, metadata, timestamp, request_id = record
    if not isinstance(name, str) or not 0 < len(name) <= NAME_CHARACTERS:
        raise InvalidRecord("model_name must be a string of 1 to 200 characters")
    fields: dict[str, Any] = {
        "model_name": clean(name),
        "duration_ms": _duration(duration),
        "was_successful": _success(success),
        "timestamp": _timestamp(timestamp, time_ns),
        "request_id": uuid7.spell(time_ns, bits) if request_id is None else _request_id(request_id),
    }
    if version is not None:
        fields["model_version"] = clean(str(version))[:NAME_CHARACTERS]
    if error is not None:
        fields["error"] = clean(error if isinstance(error, str) else describe(error))[:ERROR_CHARACTERS]
    line = _encode(fields).encode()
    if metadata is None:
        return line
    if not isinstance(metadata, Mapping):
        raise InvalidRecord("metadata must be a dict")
    return line[:-1] + b',"metadata":' + metadata_json(metadata) + b"}"


def belongs_to(line: bytes) -> tuple[str, int]:
    """Model and moment (ns since 1970) of an encoded record, for the report of its loss."""
    fields = json.loads(line)
    return fields["model_name"], _nanoseconds(datetime.fromisoformat(fields["timestamp"]))


def made_at(record: Record) -> int:
    """The moment (ns since 1970) that a waiting record was logged for."""
    timestamp = record[8]
    return _nanoseconds(timestamp) if isinstance(timestamp, datetime) else record[0]


def _nanoseconds(moment: datetime) -> int:
    return int(_utc(moment).timestamp()) * 1_000_000_000


def _utc(moment: datetime) -> datetime:
    """Without an offset it is UTC, as the service reads it."""
    return moment.replace(tzinfo=timezone.utc) if moment.tzinfo is None else moment.astimezone(timezone.utc)


def _duration(value: Any) -> float:
    number: float | None = None
    if type(value) is int or type(value) is float:
        number = value
    elif not isinstance(value, (bool, str, bytes)) and hasattr(value, "__float__"):
        number = float(value)  # NumPy's, Decimal
    try:
        if number is not None and math.isfinite(number) and number >= 0:
            return number
    except OverflowError:
        pass
    raise InvalidRecord("duration_ms must be a finite number of milliseconds, 0 or more")


def _success(value: Any) -> bool:
    """Equality, not truth: NumPy's bool passes, and the string "False" does not turn into a success."""
    if value in (True, False):
        return bool(value)
    raise InvalidRecord("was_successful must be True or False")


def _timestamp(value: Any, time_ns: int) -> str:
    if value is None:
        seconds, rest = divmod(time_ns, 1_000_000_000)
        moment = datetime.fromtimestamp(seconds, timezone.utc).replace(microsecond=rest // 1000)
    elif isinstance(value, datetime):
        moment = _utc(value)
    else:
        raise InvalidRecord("timestamp must be a datetime")
    return moment.isoformat(timespec="microseconds")


def _request_id(value: Any) -> str:
    try:
        return str(uuid.UUID(str(value)))
    except ValueError:
        raise InvalidRecord("request_id must be a UUID") from None
