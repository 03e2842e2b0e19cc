"""CloudEvents, and their receipt."""

from __future__ import annotations

from typing import Any

import marshmallow as ma

from app.presentation.api import ErrorSchema
from app.presentation.batch_decoder import MAX_RECORDS
from app.presentation.cloudevents.decoder import BATCHED, STRUCTURED
from app.presentation.cloudevents.inference import SIDES
from app.presentation.schemas.receipts import ReceiptSchema


class EventReceiptSchema(ReceiptSchema):
    """The result of events; `stored` and `duplicates` count predictions of which both sides are known."""

    waiting = ma.fields.Integer(
        required=True, metadata={"description": "Predictions of which one side is kept until the other one comes."}
    )
    passed_over = ma.fields.Integer(
        required=True, metadata={"description": "Events that are neither the request nor the response of a prediction."}
    )


EXAMPLE = {
    "specversion": "1.0",
    "id": "6a572f54-658c-413f-a272-dd757903bd89",
    "source": "http://localhost:9081/",
    "type": "org.kubeflow.serving.inference.request",
    "time": "2025-06-09T12:00:00.123456789Z",
    "inferenceservicename": "apartment-price",
    "namespace": "shop",
    "component": "predictor",
    "endpoint": "default",
    "data": {"instances": [[6.8, 2.8]]},
}
ANSWER: dict[str, Any] = {"stored": 1, "duplicates": 0, "waiting": 0, "passed_over": 0, "rejected": []}
REJECTED = [{"index": 1, "errors": {"model_name": ["Missing data for required field."]}}]
PARTLY = {**ANSWER, "rejected": REJECTED}
NONE_VALID = {**PARTLY, "stored": 0}
REFUSED = {"oneOf": [EventReceiptSchema, ErrorSchema]}
TEXT = {"type": "string", "minLength": 1, "maxLength": 90}
EVENT = {
    "type": "object",
    "required": ["specversion", "id", "source", "type", "time", "inferenceservicename"],
    "properties": {
        "specversion": {"type": "string", "enum": ["1.0"]},
        "id": {**TEXT, "description": "Both sides of a prediction have the same, or the same `requestid`."},
        "source": TEXT,
        "type": {"type": "string", "enum": list(SIDES), "description": "Events of any other type are passed over."},
        "time": {"type": "string", "format": "date-time"},
        "requestid": TEXT,
        "inferenceservicename": {**TEXT, "description": "With `modelid`, if there is one, the name of the model."},
        "modelid": TEXT,
        "endpoint": {**TEXT, "description": "The version of the model."},
        "namespace": TEXT,
        "component": TEXT,
        "data": {"description": "Not looked at."},
    },
}
DOCUMENTATION = {
    "requestBody": {
        "required": True,
        "description": "In the binary mode the attributes are headers (`ce-id`, …), and the body is the data.",
        "content": {
            STRUCTURED: {"schema": EVENT, "example": EXAMPLE},
            BATCHED: {"schema": {"type": "array", "maxItems": MAX_RECORDS, "items": EVENT}, "example": [EXAMPLE]},
        },
    },
}
