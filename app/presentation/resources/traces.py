"""Log predictions from OpenTelemetry's spans."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from flask import Response, current_app, request

from app.application.predictions import Batch, Rejected
from app.presentation import batch_decoder, intake
from app.presentation.api import Blueprint
from app.presentation.batch_decoder import MAX_RECORDS, Models
from app.presentation.errors import problem
from app.presentation.middleware.arguments import unsupported_type
from app.presentation.middleware.request_body import Body
from app.presentation.otlp import json_encoding, protobuf
from app.presentation.otlp.answers import JSON, PROTOBUF, as_status, success
from app.presentation.otlp.spans import SpanMapping
from app.presentation.schemas import otlp
from app.presentation.work_budget import TOLD, OutOfWork, Work, refuse

blp = Blueprint("traces", __name__, description="Predictions from OpenTelemetry's spans")

MAPPING = "predlog.span_mapping"
READERS = {JSON: json_encoding.read, PROTOBUF: protobuf.read}


@blp.after_request
def _answer_errors_as_otlp_does(response: Response) -> Response:
    # A client of OTLP sends a request again after 429, 502, 503 and 504, and drops it after 408.
    if response.status_code == 408:
        response.status_code = 503
        response.headers["Retry-After"] = "1"
    return as_status(response, request.mimetype) if response.status_code >= 400 else response


@blp.route("/v1/traces", methods=["POST"])
@blp.doc(**otlp.DOCUMENTATION)
def export_traces() -> Response:
    """Log predictions from OpenTelemetry's spans.

    OTLP/HTTP, in protobuf or JSON, gzipped or not. A span whose attributes name a model is a prediction of it, and all
    other spans are ignored. The request id is made of the span's ids, so a request may be sent again without harm. A
    request holds at most 10,000 predictions and 16 MB inflated. If some predictions cannot be logged, the answer is 200
    and says how many and why (`partial_success`); if none can, it is 400. Errors are `google.rpc.Status`. A client may
    send the request again after 429 and 503.
    """
    reader = READERS.get(request.mimetype)
    if reader is None:
        unsupported_type(f"{PROTOBUF} or {JSON}", request)
    spans: list[str] = []

    def read(body: Body, models: Models) -> Batch:
        mapping: SpanMapping = current_app.extensions[MAPPING]
        work = Work(len(body.content), body.sent)
        pieces: list[bytes] = []
        try:
            for span in reader(body.content, mapping, work):
                record = mapping.record(span)
                if record is not None and len(pieces) <= MAX_RECORDS:
                    spans.append(span.span_id)
                    pieces.append(_encoded(record))
        except OutOfWork:
            refuse([])
        return batch_decoder.read_pieces(pieces, models, work)

    receipt = intake.take(read).receipt
    message = _problems(spans, receipt.rejected)
    if receipt.rejected and not receipt.stored + receipt.duplicates:
        problem(400, message)
    return success(request.mimetype, len(receipt.rejected), message)


def _encoded(record: dict[str, Any]) -> bytes:
    try:
        return msgspec.json.encode(record)
    except UnicodeEncodeError:  # half a surrogate pair, for which the batch decoder has an error
        return json.dumps(record).encode()


def _problems(spans: list[str], rejected: Rejected) -> str:
    """Return the errors of the first rejected spans as text."""
    told = [f"span {spans[index]}: {msgspec.json.encode(each.errors).decode()}" for index, each in rejected[:TOLD]]
    more = [f"and {len(rejected) - TOLD} more"] if len(rejected) > TOLD else []
    return "; ".join([*told, *more])
