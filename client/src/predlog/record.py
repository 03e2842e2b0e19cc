"""One logged prediction: a plain tuple while it waits, one line of JSON when it leaves."""

from __future__ import annotations

import contextlib
import json
import math
import re
import time
import uuid
from datetime import datetime, timezone
from typing import Any

from predlog import uuid7
from predlog.metadata import metadata_json, snapshot
from predlog.moments import moment, written
from predlog.text import ERROR_CHARACTERS, NAME_CHARACTERS, UNNAMED, clean, describe, text_of

# time_ns, random bits, model_name, duration_ms, was_successful, version, error, metadata, timestamp, request_id.
# A tuple, because making a class instance would double the cost of log() for its caller.
Record = tuple[int, int, Any, Any, Any, Any, Any, Any, Any, Any]
SUCCESS, METADATA = 4, 7
FIELDS = (
    "model_name",
    "duration_ms",
    "was_successful",
    "version",
    "error",
    "metadata",
    "timestamp",
    "request_id",
)  # as log() names them

MAX_DURATION_MS = 1e292
REQUEST_ID = "request_id"  # the key in metadata of one that is no UUID

SUMMARY = b'{"summary_id":'  # how a summary (see sampling.py) begins, and no other record
_REQUEST_IDS = uuid.UUID("8d0c4b5e-52f3-5f0b-9d0e-6a3b6f1f7c11")
_UUID = re.compile(
    r"(?:urn:)?(?:uuid:)?\{?([0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12})\}?", re.ASCII | re.IGNORECASE
)

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


class InvalidRecord(ValueError):
    """The record can never be stored; the text names the field and never its value."""


def encode(record: Record, odd: list[str] | None = None) -> bytes:
    """The record as one line of UTF-8 JSON without its line end; raises InvalidRecord.

    Values of metadata that JSON cannot say are replaced, and named in `odd`.
    """
    time_ns, bits, name, duration, success, version, error, metadata, timestamp, request_id = record
    fields: dict[str, Any] = {
        "model_name": _name(name),
        "duration_ms": _duration(duration),
        "was_successful": _success(success),
        "timestamp": _timestamp(timestamp, time_ns),
    }
    identifier, foreign = (None, "") if request_id is None else _request_id(request_id)
    fields["request_id"] = identifier or uuid7.spell(time_ns, bits)
    if version is not None and (text := _version(version)):
        fields["model_version"] = text
    if error is not None:
        fields["error"] = clean(error if isinstance(error, str) else describe(error))[:ERROR_CHARACTERS]
    line = _encode(fields).encode()
    if foreign:
        metadata = {REQUEST_ID: foreign, **(snapshot(metadata) if metadata is not None else {})}
    if metadata is None:
        return line
    return line[:-1] + b',"metadata":' + metadata_json(metadata, [] if odd is None else odd) + b"}"


def measured(record: Record) -> tuple[str, str, float, bool, int]:
    """What statistics need of a prediction; raises InvalidRecord.

    Model, version ("" if there is none), milliseconds, whether it succeeded, and its moment (ns since 1970).
    """
    time_ns, _, name, duration, success, version, _, _, timestamp, _ = record
    if timestamp is not None:
        _timestamp(timestamp, time_ns)  # raises if it is none
    text = "" if version is None else _version(version)
    return _name(name), text, float(_duration(duration)), _success(success), made_at(record)


def readable(record: Record) -> dict[str, Any]:
    """The record as log() was given it, with a timestamp and a request_id in any case, and metadata of its own."""
    time_ns, number = record[:2]
    fields = dict(zip(FIELDS, record[2:]))
    if fields["timestamp"] is None:
        fields["timestamp"] = _timestamp(None, time_ns)
    if fields["request_id"] is None:
        fields["request_id"] = uuid7.spell(time_ns, number)
    fields["metadata"] = {} if fields["metadata"] is None else snapshot(fields["metadata"])
    return fields


def count_of(line: bytes) -> int:
    """How many predictions an encoded record stands for: one, if it is no summary. Never raises, as belongs_to()."""
    try:
        count = json.loads(line)["count"] if line.startswith(SUMMARY) else 1
        return count if type(count) is int and count > 0 else 1
    except Exception:
        return 1


def belongs_to(line: bytes) -> tuple[str, int]:
    """Model and moment (ns since 1970) of an encoded record, for a report that it was dropped.

    Never raises: a line of a spool file may have been written by anyone. What it does not say is "?" and now.
    """
    name, time_ns = UNNAMED, time.time_ns()
    try:
        fields = json.loads(line)
        name = fields["model_name"] if isinstance(fields["model_name"], str) else name
        time_ns = _nanoseconds(datetime.fromisoformat(fields["timestamp"]))
    except Exception:
        pass
    return name, time_ns


def made_at(record: Record) -> int:
    """The moment (ns since 1970) that a waiting record was logged for."""
    timestamp = record[8]
    if timestamp is None:
        return record[0]
    try:
        return _nanoseconds(moment(timestamp))
    except KeyboardInterrupt:
        raise
    except BaseException:
        return record[0]


def _nanoseconds(found: datetime) -> int:
    aware = found.replace(tzinfo=timezone.utc) if found.tzinfo is None else found
    return int(aware.timestamp()) * 1_000_000_000


def _name(value: object) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= NAME_CHARACTERS:
        raise InvalidRecord("model_name must be a string of 1 to 200 characters")
    return clean(value)


def _version(value: object) -> str:
    return clean(text_of(value))[:NAME_CHARACTERS]


def _duration(value: Any) -> float:
    number: float | None = None
    if type(value) is int or type(value) is float:
        number = value
    elif not isinstance(value, (bool, str, bytes)) and hasattr(value, "__float__"):
        with contextlib.suppress(ValueError, OverflowError):  # Decimal("sNaN"), a large Fraction
            number = float(value)  # NumPy's, Decimal
    try:
        if number is not None and math.isfinite(number) and 0 <= number <= MAX_DURATION_MS:
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
        return written(datetime.fromtimestamp(seconds, timezone.utc).replace(microsecond=rest // 1000))
    try:
        return written(moment(value))
    except ValueError:
        raise InvalidRecord("timestamp must be a time: a datetime, ISO 8601 text, or seconds since 1970") from None


def _request_id(value: Any) -> tuple[str | None, str]:
    """A UUID, and what it was made of if the value is none; neither for an empty value."""
    text = text_of(value).strip()
    if match := _UUID.fullmatch(text):
        return str(uuid.UUID(match[1])), ""
    return (str(uuid.uuid5(_REQUEST_IDS, clean(text))), text[:NAME_CHARACTERS]) if text else (None, "")
