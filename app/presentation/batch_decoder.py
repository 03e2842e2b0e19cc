"""Decode a batch of predictions with msgspec.

If msgspec accepts a record, marshmallow would accept it with the same meaning. Records that msgspec refuses go to
marshmallow, which accepts them or returns the errors of the single endpoint. A test holds that both decoders agree.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from functools import partial
from itertools import accumulate
from operator import le
from typing import Annotated, Any
from uuid import UUID

import marshmallow as ma
import msgspec
from msgspec import UNSET, Meta, UnsetType

from app.application.predictions import Batch, Calls, ModelNotAllowed, Rejection
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
from app.domain.summaries import Summary
from app.presentation import summary_decoder
from app.presentation.errors import problem
from app.presentation.json_splitting import elements, lines
from app.presentation.middleware.arguments import MAX_RECORD_BYTES, json_advice, loads
from app.presentation.middleware.authentication import MODEL_NOT_ALLOWED
from app.presentation.schemas.predictions import PredictionSchema, call_time
from app.presentation.schemas.summaries import SummarySchema
from app.presentation.work_budget import OutOfWork, Work, refuse

MAX_RECORDS = 10_000
# Each bin of a summary is a row of three tables: the bins of a batch cost no more than as many predictions.
MAX_BINS = 20_000
# The models that may be logged; None stands for any.
Models = frozenset[str] | None


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


_RECORD = msgspec.json.Decoder(Record)
_RECORDS = msgspec.json.Decoder(list[Record])
_PIECES = msgspec.json.Decoder(list[msgspec.Raw])
_METADATA = msgspec.json.Decoder(dict[str, Any])
# Parts of well-formed JSON that may have to be refused (NUL, half a surrogate pair, a number beyond a double), or that
# make the text longer when it is written anew. A match inside a string is harmless: marshmallow then looks at the
# metadata and accepts them.
_UNSURE = re.compile(rb"[\x00-\x1f]|\\u(?:0000|[dD][89a-fA-F])|[0-9][eE]|[0-9]{300}")
# Strings, and all that opens and closes nothing.
_NO_BRACKET = re.compile(rb'"(?:[^"\\]|\\.)*"|[^][{}"]+')
_STEPS = {ord("{"): 1, ord("["): 1, ord("}"): -1, ord("]"): -1}
_SCHEMA = PredictionSchema()
_SUMMARY = SummarySchema()
_NOT_TAKEN = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
# Markers of a timestamp and of metadata that marshmallow must look at: neither value can be stored.
_NO_TIME = datetime.max.replace(tzinfo=timezone.utc)
_NO_METADATA = "\x00"


def read_array(body: bytes, models: Models = None, sent: int | None = None) -> Batch:
    """Read a JSON array of records, for which `sent` bytes were sent if it was compressed.

    Answers 400 if the body is no JSON, 413 for too many records or too many invalid ones, 422 if it is no array.
    """
    look = _CloserLook(_work(body, sent))
    places: Sequence[int]
    try:
        records = _RECORDS.decode(body)
    except _NOT_TAKEN:
        places, records = _decoded(_pieces(body), look)
    else:
        _check_number(len(records))
        places = range(len(records))
    return _batch(places, records, partial(elements, body), look, models)


def read_lines(body: bytes, models: Models = None, sent: int | None = None) -> Batch:
    """Read one record from each line (NDJSON); a line that is no JSON is rejected alone.

    Answers 413 for too many records or too many invalid ones.
    """
    # Line by line: msgspec's decode_lines would take a record that is spread over lines, and two on one line.
    look = _CloserLook(_work(body, sent))
    places, records = _decoded(lines(body), look)
    return _batch(places, records, partial(lines, body), look, models)


def read_pieces(pieces: Sequence[bytes], models: Models, work: Work) -> Batch:
    """Read records that another decoder has written, each as JSON, within the rest of the budget of the body.

    Answers 413 for too many records or too many invalid ones.
    """
    look = _CloserLook(work)
    places, records = _decoded(pieces, look)
    return _batch(places, records, lambda: pieces, look, models)


def _pieces(body: bytes) -> Iterable[bytes]:
    """Return the elements of an array: quickly if there are summaries among them, which a valid body may have."""
    if summary_decoder.MARK in body:
        with suppress(*_NOT_TAKEN):
            return list(map(bytes, _PIECES.decode(body)))
    return elements(body)


def _work(body: bytes, sent: int | None) -> Work:
    return Work(len(body), len(body) if sent is None else sent)


class _CloserLook:
    """The results for the records that are not plainly predictions, by their index in the batch.

    Summaries are decoded here, and marshmallow looks at what msgspec refuses.
    """

    def __init__(self, work: Work) -> None:
        self._work = work
        self._bins = MAX_BINS
        self.taken: dict[int, Calls] = {}
        self.summaries: dict[int, Summary] = {}
        self.rejected: dict[int, Rejection] = {}

    def take(self, place: int, piece: bytes) -> None:
        """Accept or reject a record. Answers 413 if it is one too many."""
        try:
            if summary := summary_decoder.read(piece):
                self._summarize(place, summary)
                return
            self._work.spend(len(piece))
            found = _closer(piece)
            if isinstance(found, Summary):
                self._summarize(place, found)
            else:
                self.taken[place] = found
        except ma.ValidationError as error:
            self.rejected[place] = Rejection(error.normalized_messages())
        except OutOfWork:
            refuse(sorted(self.rejected.items()))

    def _summarize(self, place: int, summary: Summary) -> None:
        self._bins -= len(summary.bins)
        if self._bins < 0:
            problem(413, f"The summaries of a batch must have at most {MAX_BINS} bins together.")
        self.summaries[place] = summary


def _decoded(pieces: Iterable[bytes], look: _CloserLook) -> tuple[list[int], list[Record]]:
    """Return the records that msgspec accepts, and their indexes; marshmallow gets the others."""
    places: list[int] = []
    records: list[Record] = []
    for place, piece in enumerate(pieces):
        _check_number(place + 1)
        try:
            records.append(_RECORD.decode(piece))
        except _NOT_TAKEN:
            look.take(place, piece)
        else:
            places.append(place)
    return places, records


def _batch(
    places: Sequence[int],
    records: Sequence[Record],
    cut: Callable[[], Iterable[bytes]],
    look: _CloserLook,
    models: Models,
) -> Batch:
    """Return the batch in order; `cut` splits the body again if marshmallow must look at decoded records."""
    calls, refused = _columns(records, datetime.now(timezone.utc))
    if refused:
        again = {places[row] for row in refused}
        for place, piece in enumerate(cut()):
            if place in again:
                look.take(place, piece)
        rows = [row for row in range(len(records)) if row not in refused]
        calls, places = calls.at(rows), [places[row] for row in rows]
    if look.taken:
        calls, places = Calls.together([calls, *look.taken.values()]), [*places, *look.taken]
        calls = calls.at(sorted(range(len(places)), key=places.__getitem__))
    batch = Batch(calls, sorted(look.rejected.items()), in_order=_in_order(calls), summaries=look.summaries)
    if models is None:
        return batch
    not_allowed = ModelNotAllowed({"model_name": [MODEL_NOT_ALLOWED]})
    if not models.issuperset(calls.model_name):
        others = [row for row, name in enumerate(calls.model_name) if name not in models]
        batch = batch.without(others, not_allowed)
    return batch.without_summaries(lambda summary: summary.model_name not in models, not_allowed)


def _in_order(calls: Calls) -> bool:
    ids = [request_id.int for request_id in calls.request_id if request_id]
    return all(map(le, ids, ids[1:]))


def _closer(piece: bytes) -> Calls | Summary:
    if len(piece) > MAX_RECORD_BYTES:
        raise ma.ValidationError(f"Must be at most {MAX_RECORD_BYTES} bytes.")
    try:
        decoded = loads(piece.decode())
    except (ValueError, RecursionError) as error:
        raise ma.ValidationError(["Invalid JSON.", *json_advice(error)]) from None
    if isinstance(decoded, dict) and summary_decoder.ID in decoded:
        summary: Summary = _SUMMARY.load(decoded)
        return summary
    return Calls.of(_SCHEMA.load(decoded))


def _check_number(records: int) -> None:
    if records > MAX_RECORDS:
        problem(413, f"A batch must have at most {MAX_RECORDS} records.")


def _columns(records: Sequence[Record], now: datetime) -> tuple[Calls, set[int]]:
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
    calls = Calls(
        timestamp=timestamps,
        model_name=names,
        model_version=versions,
        duration_ms=[record.duration_ms for record in records],
        was_successful=[record.was_successful for record in records],
        error=errors,
        metadata=metadata,
        request_id=[record.request_id for record in records],
    )
    return calls, refused


def _has_nul(text: str | None) -> bool:
    return text is not None and "\x00" in text


def _left_out(record: Record, now: datetime) -> datetime:
    return call_time(record.request_id, now) or _NO_TIME


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
    except (ValueError, *_NOT_TAKEN):
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
