"""Log many predictions at once."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import marshmallow as ma
from flask import Response, current_app, request

from app.presentation import batch
from app.presentation.api import Blueprint, ErrorSchema
from app.presentation.errors import json_response, overloaded, problem
from app.presentation.inflate import read_body
from app.presentation.loss_header import HEADER, LOSSES_AT_MOST, LossSchema, read_losses
from app.presentation.meters import meters
from app.presentation.predictions import EXAMPLE, PredictionSchema
from app.presentation.rate_limit import caller
from app.presentation.security import models
from app.presentation.services import services

blp = Blueprint("batches", __name__, url_prefix="/api/v1", description="Logged calls, many at once")

NDJSON = ("application/x-ndjson", "application/ndjson", "application/jsonl")
ANSWER = {"stored": 2, "duplicates": 0, "rejected": []}
REJECTED = {"stored": 1, "duplicates": 0, "rejected": [{"index": 1, "errors": {"duration_ms": ["Not a number."]}}]}
NONE_VALID = REJECTED | {"stored": 0}


class RejectedSchema(ma.Schema):
    """A record that was not stored, by its place in the batch, and what is wrong with it."""

    index = ma.fields.Integer(required=True)
    errors = ma.fields.Dict(required=True)


class ReceiptSchema(ma.Schema):
    """What became of a batch."""

    stored = ma.fields.Integer(required=True, metadata={"description": "Records that are committed now."})
    duplicates = ma.fields.Integer(required=True, metadata={"description": "Records that had been stored before."})
    rejected = ma.fields.List(ma.fields.Nested(RejectedSchema), required=True)


class Slots:
    """How many batches a worker handles at once: each keeps a processor busy, and one database connection."""

    def __init__(self, number: int) -> None:
        self._free = threading.BoundedSemaphore(number)

    @contextmanager
    def take(self) -> Iterator[None]:
        """Take a slot for as long as the block lasts. Answers 503 with Retry-After where none is free."""
        if not self._free.acquire(blocking=False):
            overloaded("batches", "As many batches as the service takes at once are under way; send this one again.")
        try:
            yield
        finally:
            self._free.release()


@blp.route("/predict-logs", methods=["POST"])
@blp.doc(
    requestBody={
        "required": True,
        "content": {
            "application/json": {
                "schema": {"type": "array", "maxItems": batch.RECORDS_AT_MOST, "items": PredictionSchema},
                "example": [EXAMPLE],
            },
            "application/x-ndjson": {"schema": {"type": "string"}, "example": json.dumps(EXAMPLE) + "\n"},
        },
    },
    parameters=[
        {
            "in": "header",
            "name": HEADER,
            "content": {
                "application/json": {"schema": {"type": "array", "maxItems": LOSSES_AT_MOST, "items": LossSchema}}
            },
            "description": "What the client had to throw away, as a JSON array of reports. "
            "Reports of models that the key may not log are left out.",
        }
    ],
)
@blp.response(200, ReceiptSchema, example=ANSWER, description="All records are stored")
@blp.alt_response(207, schema=ReceiptSchema, example=REJECTED, description="Some were rejected, the others are stored")
@blp.alt_response(
    422,
    schema={"oneOf": [ReceiptSchema, ErrorSchema]},
    example=NONE_VALID,
    description="None was valid; or the body is no array, or the report of what was thrown away is wrong",
)
@blp.errors(400, 408, 413, 415, 503)
def log_batch() -> Response:
    """Log many calls at once.

    The body is a JSON array or NDJSON, gzipped or not, of at most 10,000 records and 16 MB inflated. Valid records are
    stored in one transaction, and the answer comes after it is committed; the others are listed with what is wrong.
    Records that have a `request_id` and a `timestamp` may be sent again without harm.
    """
    lines = request.mimetype in NDJSON
    if not (lines or request.is_json):
        problem(415, "Content-Type must be application/json or application/x-ndjson.")
    allowed = models()
    # What a key bound to models says of others is left out: an error would hold up the records for good.
    losses = [
        loss for loss in read_losses(request.headers.get(HEADER)) if allowed is None or loss.model_name in allowed
    ]
    slots: Slots = current_app.extensions["predlog.slots"]
    body = read_body(request, current_app.config["MAX_CONTENT_LENGTH"])
    with slots.take():
        read = batch.read_lines(body, allowed) if lines else batch.read_array(body, allowed)
        admitted = services().new_models.admit(caller(), read)
        receipt = services().predictions.log_batch(admitted.with_losses(losses))
    meters().batch(receipt, losses)
    accepted = receipt.stored + receipt.duplicates
    answer = {
        "stored": receipt.stored,
        "duplicates": receipt.duplicates,
        "rejected": [{"index": index, "errors": errors} for index, errors in receipt.rejected],
    }
    return json_response(answer, 200 if not receipt.rejected else 207 if accepted else 422)
