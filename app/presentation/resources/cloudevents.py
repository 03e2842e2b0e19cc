"""Log predictions from the events of inference loggers."""

from __future__ import annotations

import msgspec
from flask import Response, current_app, request

from app.application.halves import Side
from app.application.predictions import Batch, Receipt
from app.presentation import batch_decoder, intake
from app.presentation.api import Blueprint
from app.presentation.batch_decoder import MAX_RECORDS, Models
from app.presentation.cloudevents.decoder import EventDecoder, check_mode
from app.presentation.cloudevents.inference import SIDES, EventMapping
from app.presentation.errors import json_response
from app.presentation.middleware.request_body import Body
from app.presentation.schemas import events
from app.presentation.services import services
from app.presentation.work_budget import OutOfWork, Work, refuse

blp = Blueprint("cloudevents", __name__, description="Predictions from the events of inference loggers")

MAPPING = "predlog.event_mapping"
DECODER = "predlog.event_decoder"


@blp.route("/v1/cloudevents", methods=["POST"])
@blp.doc(**events.DOCUMENTATION)
@blp.response(200, events.EventReceiptSchema, example=events.ANSWER, description="All events are taken")
@blp.alt_response(
    207, schema=events.EventReceiptSchema, example=events.PARTLY, description="Some were rejected, the others are taken"
)
@blp.alt_response(
    422,
    schema=events.REFUSED,
    example=events.NONE_VALID,
    description="None can be used; or the body is no event, or the report of dropped predictions is wrong",
)
@blp.errors(400, 408, 413, 415, 503)
def log_events() -> Response:
    """Log predictions from the events of inference loggers.

    CloudEvents 1.0 in the binary, the structured or the batched mode, as the loggers of KServe and Seldon send them.
    The request and the response of a prediction are separate events, which may come in any order and in any request.
    The prediction is stored when both have come; its duration is the time between them. Until then one event waits for
    the other, durably, for `CLOUDEVENTS_WAIT`; after that the prediction counts as dropped, with the reason `expired`.
    Events of any other type are ignored. The data of the events is neither read nor kept. An event may be sent again
    without harm.
    """
    mapping: EventMapping = current_app.extensions[MAPPING]
    decoder: EventDecoder = current_app.extensions[DECODER]
    check_mode(request)
    sides: list[Side] = []
    places: list[int] = []
    passed_over = waiting = 0

    def read(body: Body, models: Models) -> Batch:
        nonlocal passed_over
        work = Work(len(body.content), body.sent)
        pieces: list[bytes] = []
        try:
            for place, event in enumerate(decoder.read(request, body, work)):
                side = SIDES.get(event.get("type", ""))
                if side is None:
                    passed_over += 1
                elif len(pieces) <= MAX_RECORDS:
                    sides.append(side)
                    places.append(place)
                    pieces.append(msgspec.json.encode(mapping.record(event)))
        except OutOfWork:
            refuse([])
        return batch_decoder.read_pieces(pieces, models, work)

    def log(batch: Batch) -> Receipt:
        nonlocal waiting
        receipt, waiting = services().joined_predictions.log(batch, sides)
        return receipt

    receipt = intake.take(read, log).receipt
    answer = {
        "stored": receipt.stored,
        "duplicates": receipt.duplicates,
        "waiting": waiting,
        "passed_over": passed_over,
        "rejected": [{"index": places[place], "errors": each.errors} for place, each in receipt.rejected],
    }
    accepted = receipt.stored + receipt.duplicates + waiting + passed_over
    return json_response(answer, 200 if not receipt.rejected else 207 if accepted else 422)
