"""Log many predictions at once."""

from __future__ import annotations

import json
import re

from flask import Response, request

from app.application.predictions import Batch
from app.domain.dropped import MAX_COUNT, MAX_REPORTS
from app.presentation import batch_decoder, intake
from app.presentation.api import Blueprint, ErrorSchema
from app.presentation.errors import json_response
from app.presentation.middleware.arguments import unsupported_type
from app.presentation.middleware.request_body import Body, incomplete, is_gzip
from app.presentation.resources.predictions import EXAMPLE
from app.presentation.schemas.dropped_header import HEADER, LEFT_OUT_HEADER, DroppedReportSchema
from app.presentation.schemas.predictions import PredictionSchema
from app.presentation.schemas.receipts import ReceiptSchema
from app.presentation.schemas.summaries import SummarySchema

blp = Blueprint("batches", __name__, url_prefix="/api/v1", description="Logged predictions, many at once")

NDJSON = ("application/x-ndjson", "application/ndjson", "application/jsonl")
ANSWER = {"stored": 2, "duplicates": 0, "rejected": []}
REJECTED = {"stored": 1, "duplicates": 0, "rejected": [{"index": 1, "errors": {"duration_ms": ["Not a number."]}}]}
_ENDS_WITH_EMPTY_LINE = re.compile(rb"(?:\A|\n)\r?\n\Z")
NONE_VALID = REJECTED | {"stored": 0}
LEFT_OUT = {
    LEFT_OUT_HEADER: {
        "description": f"How many reports of {HEADER} were left out: of models that the key may not log, or of more "
        "new ones than it may.",
        "schema": {"type": "integer"},
    }
}


@blp.route("/predict-logs", methods=["POST"])
@blp.doc(
    requestBody={
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "array",
                    "maxItems": batch_decoder.MAX_RECORDS,
                    "items": {"anyOf": [PredictionSchema, SummarySchema]},
                },
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
                "application/json": {"schema": {"type": "array", "maxItems": MAX_REPORTS, "items": DroppedReportSchema}}
            },
            "description": "What the client dropped, as a JSON array of reports, in ASCII: other "
            "characters are written as \\uXXXX. `POST /api/v1/dropped` takes the same as a body. "
            f"Reports of models that the key may not log, or that are more new ones than it may, are left out and "
            f"counted in {LEFT_OUT_HEADER}. Of one model and for one reason a minute counts {MAX_COUNT} dropped "
            "predictions at most.",
        }
    ],
)
@blp.response(200, ReceiptSchema, example=ANSWER, headers=LEFT_OUT, description="All records are stored")
@blp.alt_response(
    207,
    schema=ReceiptSchema,
    example=REJECTED,
    headers=LEFT_OUT,
    description="Some were rejected, the others are stored",
)
@blp.alt_response(
    422,
    schema={"oneOf": [ReceiptSchema, ErrorSchema]},
    example=NONE_VALID,
    description="None was valid; or the body is no array, or a report of dropped predictions is wrong",
)
@blp.errors(400, 408, 413, 415, 503)
def log_batch() -> Response:
    """Log many predictions at once.

    The body is a JSON array or NDJSON, gzipped or not, of at most 10,000 records and 16 MB inflated. Valid records are
    stored in one transaction, and the answer comes after it is committed; the others are listed with their errors.
    Records that have a `request_id` may be sent again without harm; if they have no `timestamp`, the `request_id` must
    be a UUIDv7. A record whose `request_id` and `timestamp` belong to a prediction of another model is rejected; on
    Citus it is stored, because the model is a part of the key there.

    A record with a `summary_id` is a summary: predictions of one version of a model in one minute that the client has
    counted instead of sending each of them whole. All statistics count them; a range counts a minute that begins in it.
    The same `summary_id` again, of the same model, counts nothing new. The summaries of a batch have at most 20,000
    bins together.

    A batch that is mostly invalid and costs the service far more work than its sender (many tiny records, or gzip of
    the same one over and over) is answered 413: nothing is stored, and the first rejected records are listed. NDJSON
    that is sent in chunks, without a Content-Length, must show that it is whole: gzip it or end it with an empty line.
    """
    lines = request.mimetype in NDJSON
    if not (lines or request.is_json):
        unsupported_type("application/json or application/x-ndjson", request)

    def read(body: Body, allowed: batch_decoder.Models) -> Batch:
        if lines:
            _check_end(body.content)
        return (batch_decoder.read_lines if lines else batch_decoder.read_array)(body.content, allowed, body.sent)

    taken = intake.take(read)
    receipt = taken.receipt
    accepted = receipt.stored + receipt.duplicates
    answer = {
        "stored": receipt.stored,
        "duplicates": receipt.duplicates,
        "rejected": [{"index": index, "errors": rejection.errors} for index, rejection in receipt.rejected],
    }
    response = json_response(answer, 200 if not receipt.rejected else 207 if accepted else 422)
    if taken.left_out:
        response.headers[LEFT_OUT_HEADER] = str(taken.left_out)
    return response


def _check_end(body: bytes) -> None:
    """Answer 400 for chunked NDJSON that does not show that it is complete.

    Granian's `wsgi.input.read(size)` returns the same at the last chunk as when the body breaks off. Only `read()`
    tells them apart, but it has no limit, and a chunked body has no length that could be checked beforehand. A JSON
    array ends with its bracket, gzip with its checksum.
    """
    if "chunked" not in request.headers.get("Transfer-Encoding", "").lower() or is_gzip(request):
        return
    if not _ENDS_WITH_EMPTY_LINE.search(body, max(0, len(body) - 4)):
        incomplete(
            " The end of NDJSON that is sent in chunks must show: end it with an empty line, compress it with gzip, "
            "or send it with a Content-Length."
        )
