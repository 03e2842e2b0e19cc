"""A prediction is one logged call of an ML model."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import UUID

from app.domain.instants import EPOCH

MAX_MODEL_NAME_LENGTH = 200
MAX_MODEL_VERSION_LENGTH = 200
MAX_ERROR_LENGTH = 4096
MAX_METADATA_BYTES = 4096
MAX_METADATA_DEPTH = 100
EARLIEST = datetime(2000, 1, 1, tzinfo=timezone.utc)
FUTURE_TOLERANCE = timedelta(minutes=5)
# A sum of durations must stay finite: a double holds the sum of 10^16 of the longest ones.
MAX_DURATION_MS = 1e292
NO_VERSION = ""
_LATEST_MS = 253_402_300_799_999  # of the year 9999


@dataclass(frozen=True)
class Prediction:
    """One call of a model: which model, when (aware, UTC), how long it took in milliseconds, whether it succeeded.

    `request_id` together with `timestamp` is the idempotency key. The store gives the `id`.
    """

    model_name: str
    duration_ms: float
    was_successful: bool
    timestamp: datetime
    model_version: str = NO_VERSION
    error: str | None = None
    metadata: Mapping[str, Any] | None = None
    request_id: UUID | None = None
    id: int | None = None


def shortest_number(value: float) -> int | float:
    """Return the number as its sender wrote it: 124 for 124.0, 0.35 for 0.35; beyond 2^53 the float itself."""
    return int(value) if value.is_integer() and abs(value) < 2**53 else value


def duration_problem(value: float) -> str | None:
    """Return a sentence that says why a number of milliseconds cannot be a duration; None if it can."""
    if not math.isfinite(value):
        return "Must be a finite number of milliseconds."
    if value < 0:
        return "Must be greater than or equal to 0."
    if value > MAX_DURATION_MS:
        return f"Must be at most {MAX_DURATION_MS:g} milliseconds."
    return None


def timestamp_problem(timestamp: datetime, now: datetime) -> str | None:
    """Return a sentence that says why a prediction cannot be from that time; None if it can."""
    if timestamp < EARLIEST:
        return "Must not be before 2000-01-01T00:00:00+00:00."
    if timestamp > now + FUTURE_TOLERANCE:
        return "Must not be more than five minutes in the future."
    return None


def timestamp_of(request_id: UUID) -> datetime | None:
    """Return the time in a UUIDv7 (RFC 9562: its first 48 bits are milliseconds since 1970); None for other UUIDs."""
    if request_id.version != 7:
        return None
    return EPOCH + timedelta(milliseconds=min(request_id.int >> 80, _LATEST_MS))


def metadata_json(metadata: Mapping[str, Any]) -> str:
    """Return metadata as compact JSON.

    Raises ValueError, with a sentence, if a prediction cannot have this metadata.
    """
    strings = _strings(metadata)
    if strings is None:
        raise ValueError(f"Must not be nested deeper than {MAX_METADATA_DEPTH} levels.")
    try:
        text = json.dumps(metadata, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except ValueError:
        raise ValueError("Must hold finite numbers only.") from None
    if "\\u0000" in text and any("\x00" in string for string in strings):
        raise ValueError("Must not contain NUL characters.")
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise ValueError("Must be valid Unicode without lone surrogates.") from None
    if size > MAX_METADATA_BYTES:
        raise ValueError(f"Must be at most {MAX_METADATA_BYTES} bytes of JSON, not {size}.")
    return text


def _strings(metadata: Mapping[str, Any]) -> list[str] | None:
    """All keys and strings, level by level; None if there are more levels than MAX_METADATA_DEPTH."""
    found: list[str] = []
    level: list[Any] = [metadata]
    for _ in range(MAX_METADATA_DEPTH):
        below: list[Any] = []
        for part in level:
            if isinstance(part, dict):
                found += part
                below += part.values()
            else:
                below += part
        found += [part for part in below if isinstance(part, str)]
        level = [part for part in below if isinstance(part, (dict, list))]
        if not level:
            return found
    return None


def text_problem(text: str) -> str | None:
    """Return a sentence that says why PostgreSQL cannot keep this text; None if it can."""
    if "\x00" in text:
        return "Must not contain NUL characters."
    try:
        text.encode()
    except UnicodeEncodeError:
        return "Must be valid Unicode without lone surrogates."
    return None
