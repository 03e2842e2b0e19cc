"""The fast door: many records at once, decoded by msgspec.

A record that msgspec takes is one that marshmallow would take, with the same meaning; whatever it does not take is
given to marshmallow, which accepts it or says what is wrong in the words of the single endpoint. A test holds the two
doors to that.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timezone
from itertools import accumulate
from operator import le
from typing import Annotated, Any
from uuid import UUID

import marshmallow as ma
import msgspec
from msgspec import UNSET, Meta, UnsetType

from app.application.predictions import Batch, Calls
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
from app.presentation.errors import problem
from app.presentation.json_splitting import elements, lines
from app.presentation.middleware.arguments import MAX_RECORD_BYTES, json_advice, loads
from app.presentation.middleware.authentication import MODEL_NOT_ALLOWED
from app.presentation.schemas.predictions import PredictionSchema, call_time
from app.presentation.work_budget import OutOfWork, Work, refuse

MAX_RECORDS = 10_000
# The models that may be logged; None stands for any.
Models = frozenset[str] | None


class Record(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A call as it is sent in a batch; what msgspec checks here is in PredictionSchema, too."""

    model_name: Annotated[str, Meta(min_length=1, max_length=MAX_MODEL_NAME_LENGTH)]
    duration_ms: Annotated[float, Meta(ge=0, le=MAX_DURATION_MS)]
    was_successful: bool
    timestamp: datetime | None = None
    model_version: Annotated[str, Meta(min_length=1, max_length=MAX_MODEL_VERSION_LENGTH)] | None = None
    error: Annotated[str, Meta(max_length=MAX_ERROR_LENGTH)] | None = None
    metadata: msgspec.Raw | UnsetType = UNSET  # null is four bytes, like any other value
    request_id: UUID | None = None


_RECORD = msgspec.json.Decoder(Record)
_RECORDS = msgspec.json.Decoder(list[Record])
_METADATA = msgspec.json.Decoder(dict[str, Any])
# In JSON that msgspec has found to be well-formed: what may be refused all the same (NUL, half a surrogate pair, a
# number without end), or makes the text longer when it is written anew. Where it is in a string that is no harm: such
# metadata takes a closer look, and is stored as well.
_UNSURE = re.compile(rb"[\x00-\x1f]|\\u(?:0000|[dD][89a-fA-F])|[0-9][eE]|[0-9]{300}")
# Strings, and all that opens and closes nothing.
_NO_BRACKET = re.compile(rb'"(?:[^"\\]|\\.)*"|[^][{}"]+')
_STEPS = {ord("{"): 1, ord("["): 1, ord("}"): -1, ord("]"): -1}
_SCHEMA = PredictionSchema()
_NOT_TAKEN = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Refused(Exception):
    """Not for the fast door: marshmallow decides of each record."""


def read_array(body: bytes, models: Models = None, sent: int | None = None) -> Batch:
    """Read a JSON array of records, for which `sent` bytes were sent if it was compressed.

    Answers 400 for what is no JSON, 413 for too many records or too many invalid ones, 422 for no array.
    """
    try:
        records = _RECORDS.decode(body)
        _check_number(len(records))
        return _all_at_once(records, models)
    except (*_NOT_TAKEN, Refused):
        return _one_by_one(elements(body), models, _work(body, sent))


def read_lines(body: bytes, models: Models = None, sent: int | None = None) -> Batch:
    """Read one record a line (NDJSON); a line that is no JSON is rejected alone.

    Answers 413 for too many records or too many invalid ones.
    """
    # Line by line: msgspec's decode_lines would take a record that is spread over lines, and two on one line.
    try:
        return _all_at_once([_RECORD.decode(line) for line in _counted(lines(body))], models)
    except (*_NOT_TAKEN, Refused):
        return _one_by_one(lines(body), models, _work(body, sent))


def _work(body: bytes, sent: int | None) -> Work:
    return Work(len(body), len(body) if sent is None else sent)


def _counted(pieces: Iterable[bytes]) -> Iterator[bytes]:
    for index, piece in enumerate(pieces):
        _check_number(index + 1)
        yield piece


def _all_at_once(records: list[Record], models: Models) -> Batch:
    """The batch. Raises Refused where a record needs a closer look."""
    calls = _calls(records, datetime.now(timezone.utc))
    if models is not None and not models.issuperset(calls.model_name):
        raise Refused
    return Batch(calls, in_order=_in_order(calls))


def _one_by_one(pieces: Iterable[bytes], models: Models, work: Work) -> Batch:
    now = datetime.now(timezone.utc)
    taken: list[Calls] = []
    rejected: list[tuple[int, dict[str, Any]]] = []
    for index, piece in enumerate(_counted(pieces)):
        try:
            taken.append(_allowed(_either_door(piece, now, work), models))
        except ma.ValidationError as error:
            rejected.append((index, error.normalized_messages()))
        except OutOfWork:
            refuse(rejected)
    calls = Calls.together(taken)
    return Batch(calls, rejected, in_order=_in_order(calls))


def _in_order(calls: Calls) -> bool:
    ids = [request_id.int for request_id in calls.request_id if request_id]
    return all(map(le, ids, ids[1:]))


def _allowed(call: Calls, models: Models) -> Calls:
    if models is not None and not models.issuperset(call.model_name):
        raise ma.ValidationError({"model_name": [MODEL_NOT_ALLOWED]})
    return call


def _either_door(piece: bytes, now: datetime, work: Work) -> Calls:
    try:
        return _calls([_RECORD.decode(piece)], now)
    except (*_NOT_TAKEN, Refused):
        work.spend(len(piece))
        return _closer(piece)


def _closer(piece: bytes) -> Calls:
    if len(piece) > MAX_RECORD_BYTES:
        raise ma.ValidationError(f"Must be at most {MAX_RECORD_BYTES} bytes.")
    try:
        decoded = loads(piece.decode())
    except (ValueError, RecursionError) as error:
        raise ma.ValidationError(["Invalid JSON.", *json_advice(error)]) from None
    return Calls.of(_SCHEMA.load(decoded))


def _check_number(records: int) -> None:
    if records > MAX_RECORDS:
        problem(413, f"A batch must have at most {MAX_RECORDS} records.")


def _calls(records: Sequence[Record], now: datetime) -> Calls:
    """The records as they are stored, what msgspec's types do not say checked. Raises Refused.

    Column by column: a function that is called for each record would take twice as long.
    """
    names = [record.model_name for record in records]
    versions = [record.model_version or NO_VERSION for record in records]
    errors = [record.error for record in records]
    texts = {*names, *versions, *errors}
    if any(text and "\x00" in text for text in texts):
        raise Refused
    return Calls(
        timestamp=_timestamps(records, now),
        model_name=names,
        model_version=versions,
        duration_ms=[record.duration_ms for record in records],
        was_successful=[record.was_successful for record in records],
        error=errors,
        metadata=[None if record.metadata is UNSET else _checked(record.metadata) for record in records],
        request_id=[record.request_id for record in records],
    )


def _timestamps(records: Sequence[Record], now: datetime) -> Sequence[datetime]:
    timestamps = [_left_out(record, now) if record.timestamp is None else _utc(record.timestamp) for record in records]
    if records and (timestamp_problem(min(timestamps), now) or timestamp_problem(max(timestamps), now)):
        raise Refused
    return timestamps


def _left_out(record: Record, now: datetime) -> datetime:
    timestamp = call_time(record.request_id, now)
    if timestamp is None:
        raise Refused
    return timestamp


def _checked(metadata: msgspec.Raw) -> str | None:
    """Metadata that can be stored: mostly just as it was sent, since decoding takes longer than all else here."""
    sent = bytes(metadata)
    if sent == b"null":
        return None
    if len(sent) > MAX_RECORD_BYTES:
        raise Refused
    try:
        text = sent.decode()
        if sent.startswith(b"{") and len(sent) <= MAX_METADATA_BYTES and _is_shallow(sent) and not _UNSURE.search(sent):
            return text
        return metadata_json(_METADATA.decode(sent))
    except (ValueError, *_NOT_TAKEN):
        raise Refused from None


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
        raise Refused from None
