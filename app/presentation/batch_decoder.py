"""Decode a batch of predictions with msgspec.

If msgspec accepts a record, marshmallow would accept it with the same meaning. Records that msgspec refuses go to
marshmallow, which accepts them or returns the errors of the single endpoint. A test holds that both decoders agree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from functools import partial
from operator import le

import msgspec

from app.application.predictions import Batch, ModelNotAllowed, PredictionColumns
from app.presentation import summary_decoder
from app.presentation.closer_look import CloserLook
from app.presentation.errors import problem
from app.presentation.json_splitting import elements, lines
from app.presentation.middleware.authentication import MODEL_NOT_ALLOWED
from app.presentation.record_columns import NOT_TAKEN, Record, columns
from app.presentation.work_budget import Work

MAX_RECORDS = 10_000
# More than a batch has that is full of summaries. Cut at once, each element takes a hundred bytes beside its own.
MAX_COMMAS = 200_000
# The models that may be logged; None stands for any.
Models = frozenset[str] | None

_RECORD = msgspec.json.Decoder(Record)
_RECORDS = msgspec.json.Decoder(list[Record])
_PIECES = msgspec.json.Decoder(list[msgspec.Raw])


def read_array(body: bytes, models: Models = None, sent: int | None = None) -> Batch:
    """Read a JSON array of records, for which `sent` bytes were sent if it was compressed.

    Answers 400 if the body is no JSON, 413 for too many records or too many invalid ones, 422 if it is no array.
    """
    look = CloserLook(_work(body, sent))
    places: Sequence[int]
    try:
        records = _RECORDS.decode(body)
    except NOT_TAKEN:
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
    look = CloserLook(_work(body, sent))
    places, records = _decoded(lines(body), look)
    return _batch(places, records, partial(lines, body), look, models)


def read_pieces(pieces: Sequence[bytes], models: Models, work: Work) -> Batch:
    """Read records that another decoder has written, each as JSON, within the rest of the budget of the body.

    Answers 413 for too many records or too many invalid ones.
    """
    look = CloserLook(work)
    places, records = _decoded(pieces, look)
    return _batch(places, records, lambda: pieces, look, models)


def _pieces(body: bytes) -> Iterable[bytes]:
    """Return the elements of an array: quickly if there are summaries among them, which a valid body may have."""
    if summary_decoder.MARK in body and body.count(b",") <= MAX_COMMAS:
        with suppress(*NOT_TAKEN):
            return list(map(bytes, _PIECES.decode(body)))
    return elements(body)


def _work(body: bytes, sent: int | None) -> Work:
    return Work(len(body), len(body) if sent is None else sent)


def _decoded(pieces: Iterable[bytes], look: CloserLook) -> tuple[list[int], list[Record]]:
    """Return the records that msgspec accepts, and their indexes; marshmallow gets the others."""
    places: list[int] = []
    records: list[Record] = []
    for place, piece in enumerate(pieces):
        _check_number(place + 1)
        try:
            records.append(_RECORD.decode(piece))
        except NOT_TAKEN:
            look.take(place, piece)
        else:
            places.append(place)
    return places, records


def _batch(
    places: Sequence[int],
    records: Sequence[Record],
    cut: Callable[[], Iterable[bytes]],
    look: CloserLook,
    models: Models,
) -> Batch:
    """Return the batch in order; `cut` splits the body again if marshmallow must look at decoded records."""
    predictions, refused = columns(records, datetime.now(timezone.utc))
    if refused:
        again = {places[row] for row in refused}
        for place, piece in enumerate(cut()):
            if place in again:
                look.take(place, piece)
        rows = [row for row in range(len(records)) if row not in refused]
        predictions, places = predictions.at(rows), [places[row] for row in rows]
    if look.taken:
        predictions, places = PredictionColumns.together([predictions, *look.taken.values()]), [*places, *look.taken]
        predictions = predictions.at(sorted(range(len(places)), key=places.__getitem__))
    batch = Batch(predictions, sorted(look.rejected.items()), in_order=_in_order(predictions), summaries=look.summaries)
    if models is None:
        return batch
    not_allowed = ModelNotAllowed({"model_name": [MODEL_NOT_ALLOWED]})
    if not models.issuperset(predictions.model_name):
        others = [row for row, name in enumerate(predictions.model_name) if name not in models]
        batch = batch.without(others, not_allowed)
    return batch.without_summaries(lambda summary: summary.model_name not in models, not_allowed)


def _in_order(predictions: PredictionColumns) -> bool:
    ids = [request_id.int for request_id in predictions.request_id if request_id]
    return all(map(le, ids, ids[1:]))


def _check_number(records: int) -> None:
    if records > MAX_RECORDS:
        problem(413, f"A batch must have at most {MAX_RECORDS} records.")
