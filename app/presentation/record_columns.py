"""Records of predictions as msgspec decodes them, and their columns.

If msgspec accepts a record, marshmallow would accept it with the same meaning, but for what `columns` refuses.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timezone
from itertools import accumulate
from typing import Annotated, Any
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType

from app.application.predictions import PredictionColumns
from app.domain.predictions import (
    MAX_DURATION_MS,
    MAX_ERROR_LENGTH,
    MAX_METADATA_BYTES,
    MAX_METADATA_DEPTH,
    MAX_MODEL_NAME_LENGTH,
    MAX_MODEL_VERSION_LENGTH,
    NO_VERSION,
    metadata_json,
    timestamp_problem,
)
from app.presentation.middleware.arguments import MAX_RECORD_BYTES
from app.presentation.schemas.predictions import prediction_time

NOT_TAKEN = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Record(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A prediction as it is sent in a batch; PredictionSchema has the same checks."""

    model_name: Annotated[str, Meta(min_length=1, max_length=MAX_MODEL_NAME_LENGTH)]
    duration_ms: Annotated[float, Meta(ge=0, le=MAX_DURATION_MS)]
    was_successful: bool
    timestamp: datetime | None = None
    model_version: Annotated[str, Meta(min_length=1, max_length=MAX_MODEL_VERSION_LENGTH)] | None = None
    error: Annotated[str, Meta(max_length=MAX_ERROR_LENGTH)] | None = None
    metadata: msgspec.Raw | UnsetType = UNSET  # null is four bytes, like any other value
    request_id: UUID | None = None


_METADATA = msgspec.json.Decoder(dict[str, Any])
# Parts of well-formed JSON that may have to be refused (NUL, half a surrogate pair, a number beyond a double), or that
# make the text longer when it is written anew. A match inside a string is harmless: marshmallow then looks at the
# metadata and accepts them.
_UNSURE = re.compile(rb"[\x00-\x1f]|\\u(?:0000|[dD][89a-fA-F])|[0-9][eE]|[0-9]{300}")
# Strings, and all that opens and closes nothing.
_NO_BRACKET = re.compile(rb'"(?:[^"\\]|\\.)*"|[^][{}"]+')
_STEPS = {ord("{"): 1, ord("["): 1, ord("}"): -1, ord("]"): -1}
# Markers of a timestamp and of metadata that marshmallow must look at: neither value can be stored.
_NO_TIME = datetime.max.replace(tzinfo=timezone.utc)
_NO_METADATA = "\x00"


def columns(records: Sequence[Record], now: datetime) -> tuple[PredictionColumns, set[int]]:
    """Return the records as columns, and the rows that need checks beyond msgspec's types.

    Column by column: a function that is called for each record would take twice as long.
    """
    names = [record.model_name for record in records]
    versions = [record.model_version or NO_VERSION for record in records]
    errors = [record.error for record in records]
    timestamps = [_left_out(record, now) if record.timestamp is None else _utc(record.timestamp) for record in records]
    metadata = [None if record.metadata is UNSET else _checked(record.metadata) for record in records]
    refused: set[int] = set()
    if any(map(_has_nul, {*names, *versions, *errors})):
        refused.update(row for row, texts in enumerate(zip(names, versions, errors)) if any(map(_has_nul, texts)))
    if records and (timestamp_problem(min(timestamps), now) or timestamp_problem(max(timestamps), now)):
        refused.update(row for row, timestamp in enumerate(timestamps) if timestamp_problem(timestamp, now))
    if _NO_METADATA in metadata:
        refused.update(row for row, text in enumerate(metadata) if text == _NO_METADATA)
    predictions = PredictionColumns(
        timestamp=timestamps,
        model_name=names,
        model_version=versions,
        duration_ms=[record.duration_ms for record in records],
        was_successful=[record.was_successful for record in records],
        error=errors,
        metadata=metadata,
        request_id=[record.request_id for record in records],
    )
    return predictions, refused


def _has_nul(text: str | None) -> bool:
    return text is not None and "\x00" in text


def _left_out(record: Record, now: datetime) -> datetime:
    return prediction_time(record.request_id, now) or _NO_TIME


def _checked(metadata: msgspec.Raw) -> str | None:
    """Return metadata that can be stored, mostly as it was sent, because decoding would take most of the time."""
    sent = bytes(metadata)
    if sent == b"null":
        return None
    if len(sent) > MAX_RECORD_BYTES:
        return _NO_METADATA
    try:
        text = sent.decode()
        if not (sent.startswith(b"{") and _is_shallow(sent)):
            return _NO_METADATA
        if len(sent) <= MAX_METADATA_BYTES and not _UNSURE.search(sent):
            return text
        return metadata_json(_METADATA.decode(sent))
    except (ValueError, *NOT_TAKEN):
        return _NO_METADATA


def _is_shallow(text: bytes) -> bool:
    """Whether JSON is nested no deeper than metadata may be, told from its brackets: a walk through it takes longer."""
    if text.count(b"{") + text.count(b"[") <= MAX_METADATA_DEPTH:
        return True
    brackets = _NO_BRACKET.sub(b"", text)
    return max(accumulate(map(_STEPS.__getitem__, brackets))) <= MAX_METADATA_DEPTH


def _utc(timestamp: datetime) -> datetime:
    """The same moment in UTC: PostgreSQL knows no offset of 16 hours or more."""
    if timestamp.tzinfo is timezone.utc:
        return timestamp
    if timestamp.tzinfo is None:
        return timestamp.replace(tzinfo=timezone.utc)
    try:
        return timestamp.astimezone(timezone.utc)
    except OverflowError:
        return _NO_TIME
