"""One prediction as JSON."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any
from uuid import UUID

import marshmallow as ma
from marshmallow.validate import Length

from app.domain.predictions import (
    MAX_DURATION_MS,
    MAX_ERROR_LENGTH,
    MAX_MODEL_NAME_LENGTH,
    MAX_MODEL_VERSION_LENGTH,
    NO_VERSION,
    Prediction,
    timestamp_of,
    timestamp_problem,
)
from app.presentation.schemas.fields import Identifier, Instant, JsonBoolean, Metadata, Milliseconds, Text, name

MAX_FIELDS = 20
NO_TIME = "A request_id that is not a UUIDv7 needs a timestamp: without one, each retry would be stored again."


def prediction_time(request_id: UUID | None, now: datetime) -> datetime | None:
    """Return the time of a prediction without a timestamp; None if its request id does not tell it."""
    return now if request_id is None else timestamp_of(request_id)


class PredictionSchema(ma.Schema):
    """One prediction."""

    id = ma.fields.Integer(dump_only=True, metadata={"description": "Given by the service.", "example": 1})
    model_name = name(MAX_MODEL_NAME_LENGTH, required=True, metadata={"description": "The model that was called."})
    duration_ms = Milliseconds(
        required=True,
        metadata={"description": "How long it took, in milliseconds.", "minimum": 0, "maximum": MAX_DURATION_MS},
    )
    was_successful = JsonBoolean(required=True, metadata={"description": "Whether the prediction succeeded."})
    timestamp = Instant(
        allow_none=True,
        metadata={
            "description": "The time of the prediction, ISO 8601; UTC if it has no offset. "
            "Default: the time in `request_id` if that is a UUIDv7, now if there is no `request_id`."
        },
    )
    model_version = name(
        MAX_MODEL_VERSION_LENGTH, allow_none=True, metadata={"description": "Which version was called."}
    )
    error = Text(
        allow_none=True, validate=Length(max=MAX_ERROR_LENGTH), metadata={"description": "The error of the prediction."}
    )
    metadata = Metadata(allow_none=True, metadata={"description": "Anything else, at most 4 KB of JSON."})
    request_id = Identifier(
        allow_none=True,
        metadata={
            "description": "With `timestamp` the idempotency key: the same two again store nothing new. "
            "Without a `timestamp` it must be a UUIDv7, which has the time in it."
        },
    )

    @ma.pre_load
    def check_number_of_fields(self, data: Any, **_: Any) -> Any:
        # Each unknown field makes an error, so a body of a million of them would make an answer larger than itself.
        if isinstance(data, dict) and len(data) > MAX_FIELDS:
            raise ma.ValidationError(f"Must have at most {MAX_FIELDS} fields.")
        return data

    @ma.post_load
    def to_prediction(self, data: dict[str, Any], **_: Any) -> Prediction:
        now = datetime.now(timezone.utc)
        given = {name: value for name, value in data.items() if value is not None}
        timestamp = given.setdefault("timestamp", prediction_time(given.get("request_id"), now))
        if problem := NO_TIME if timestamp is None else timestamp_problem(timestamp, now):
            raise ma.ValidationError(problem, "timestamp")
        return Prediction(**given)

    @ma.post_dump
    def leave_out_what_was_not_sent(self, data: dict[str, Any], **_: Any) -> dict[str, Any]:
        return {
            key: value
            for key, value in data.items()
            if value is not None and (key, value) != ("model_version", NO_VERSION)
        }
