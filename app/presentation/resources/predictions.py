"""Log predictions, list them, look at one, delete one."""

from __future__ import annotations

import base64
import binascii
import json
from datetime import datetime, timezone
from typing import Any
from uuid import UUID

import marshmallow as ma
from flask import Response
from marshmallow.validate import Length, Range

from app.application.predictions import Cursor, Filters
from app.domain.errors import InvalidInput
from app.domain.instants import TimeRange, parse_bound, parse_instant
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
from app.presentation.api import Blueprint
from app.presentation.audit import audit
from app.presentation.instruments import meters
from app.presentation.middleware.authentication import check_model, models, readable
from app.presentation.middleware.rate_limit import caller
from app.presentation.pagination import link_to_next_page
from app.presentation.schemas.fields import (
    Identifier,
    Instant,
    JsonBoolean,
    Metadata,
    Milliseconds,
    QueryInteger,
    QueryMilliseconds,
    Text,
    bound,
    name,
    version,
    zone,
)
from app.presentation.schemas.prediction_list import page_json
from app.presentation.schemas.ranges import check_order
from app.presentation.services import services

blp = Blueprint("predictions", __name__, url_prefix="/api/v1", description="Logged calls, one by one")

MAX_ID = 2**63 - 1
MAX_FIELDS = 20
EXAMPLE = {
    "model_name": "apartment_price_v1",
    "duration_ms": 124,
    "was_successful": True,
    "timestamp": "2025-06-09T12:00:00Z",
}
STORED = {"id": 1, **EXAMPLE, "timestamp": "2025-06-09T12:00:00+00:00"}


NO_TIME = "A request_id that is not a UUIDv7 needs a timestamp: without one, each retry would be stored again."


def call_time(request_id: UUID | None, now: datetime) -> datetime | None:
    """When a call without a timestamp was; None if only its sender can tell."""
    return now if request_id is None else timestamp_of(request_id)


class PredictionSchema(ma.Schema):
    """One call of a model."""

    id = ma.fields.Integer(dump_only=True, metadata={"description": "Given by the service.", "example": 1})
    model_name = name(MAX_MODEL_NAME_LENGTH, required=True, metadata={"description": "What was called."})
    duration_ms = Milliseconds(
        required=True,
        metadata={"description": "How long it took, in milliseconds.", "minimum": 0, "maximum": MAX_DURATION_MS},
    )
    was_successful = JsonBoolean(required=True, metadata={"description": "Whether the call succeeded."})
    timestamp = Instant(
        allow_none=True,
        metadata={
            "description": "When, ISO 8601; UTC where it has no offset. "
            "Default: the time in `request_id` if that is a UUIDv7, now if there is no `request_id`."
        },
    )
    model_version = name(
        MAX_MODEL_VERSION_LENGTH, allow_none=True, metadata={"description": "Which version was called."}
    )
    error = Text(allow_none=True, validate=Length(max=MAX_ERROR_LENGTH), metadata={"description": "What went wrong."})
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
        # Each field that is unknown is told: a body of a million of them would make an answer larger than itself.
        if isinstance(data, dict) and len(data) > MAX_FIELDS:
            raise ma.ValidationError(f"Must have at most {MAX_FIELDS} fields.")
        return data

    @ma.post_load
    def to_prediction(self, data: dict[str, Any], **_: Any) -> Prediction:
        now = datetime.now(timezone.utc)
        given = {name: value for name, value in data.items() if value is not None}
        timestamp = given.setdefault("timestamp", call_time(given.get("request_id"), now))
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


class ListCursor(Text):
    """A cursor that a page has given out."""

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        text: str = super()._deserialize(value, *args, **kwargs)
        return decode_cursor(text) if text else None


FILTERS = ("model_name", "model_version", "was_successful", "start", "end", "min_duration_ms")


class FiltersSchema(ma.Schema):
    """Which predictions to look at."""

    model_name = name(MAX_MODEL_NAME_LENGTH, metadata={"description": "Only calls of this model."})
    model_version = version("Only calls of this version; empty: only calls without one.")
    was_successful = ma.fields.Boolean(metadata={"description": "Only calls that succeeded, or only the others."})
    start = bound("Not before this date or instant.", data_key="from", example="2025-06-01")
    end = bound("Up to this date (included) or instant (not included).", data_key="to", example="2025-06-09")
    timezone = zone("IANA time zone of the dates.")
    min_duration_ms = QueryMilliseconds(
        metadata={"description": "Only calls that took at least this long.", "minimum": 0, "maximum": MAX_DURATION_MS}
    )

    @ma.post_load
    def to_filters(self, data: dict[str, Any], **_: Any) -> dict[str, Any]:
        zone = data.pop("timezone")
        given = {name: data.pop(name) for name in FILTERS if name in data}
        names = readable([given.pop("model_name")] if "model_name" in given else [])
        texts = dict(given)
        for key, field in (("start", "from"), ("end", "to")):
            if key in given:
                given[key] = parse_bound(field, given[key], zone, is_end=key == "end")
        if "start" in given and "end" in given:
            check_order(("from", texts["start"]), ("to", texts["end"]), TimeRange(given["start"], given["end"]))
        return {"filters": Filters(model_names=names or None, **given), **data}


class PredictionQuerySchema(FiltersSchema):
    """Which predictions to list."""

    limit = QueryInteger(load_default=100, validate=Range(1, 1000), metadata={"description": "How many at most."})
    cursor = ListCursor(
        load_default=None, metadata={"description": "Where to go on: taken from the Link header of the page before."}
    )


class PredictionPathSchema(ma.Schema):
    """Which prediction."""

    prediction_id = QueryInteger(
        required=True, validate=Range(1, MAX_ID), metadata={"description": "The prediction's id.", "example": 1}
    )


class MessageSchema(ma.Schema):
    """A sentence."""

    message = ma.fields.String(required=True)


def links(pointer: str) -> dict[int, Any]:
    """What can be done next with the prediction whose id stands at that place of an answer, as OpenAPI writes it."""
    parameters = {"prediction_id": f"$response.body#{pointer}"}
    names = ("get_prediction", "delete_prediction")
    return {200: {"links": {name: {"operationId": name, "parameters": parameters} for name in names}}}


@blp.route("/predict-log", methods=["POST"])
@blp.doc(responses=links("/id"))
@blp.arguments(PredictionSchema(), example=EXAMPLE)
@blp.response(200, PredictionSchema, example=STORED, description="The stored record")
@blp.errors(400, 408, 409, 413, 415, 422, 503)
def log_prediction(prediction: Prediction) -> Prediction:
    """Log one call of a model.

    The answer comes after the record is committed. A call that was sent with a `request_id` may be sent again without
    harm: the same `request_id` and `timestamp` return the first record and store nothing. If the `timestamp` is left
    out, it is taken from the `request_id`, which must be a UUIDv7 then. If a call of another model has both, the answer
    is 409 and tells nothing of that call. `null` in an optional field means "not given".
    """
    check_model(prediction.model_name)
    services().new_models.check(caller(), prediction)
    record, is_new = services().predictions.log(prediction)
    meters().stored(is_new=is_new)
    return record


@blp.route("/predictions")
@blp.doc(responses=links("/0/id"))
@blp.arguments(PredictionQuerySchema(), location="query")
@blp.response(
    200,
    PredictionSchema(many=True),
    example=[STORED],
    description="The newest calls first",
    headers={"Link": {"description": 'The next page, as `<…>; rel="next"`.', "schema": {"type": "string"}}},
)
@blp.errors(422, 503)
def list_predictions(query: dict[str, Any]) -> Response:
    """List logged calls, newest first.

    While there is more, the header `Link` with `rel="next"` has the address of the next page, relative to this one:
    follow it until there is none. A page may have fewer calls than `limit`, or none, and still lead on: it holds a
    megabyte of records, and with `model_version`, `min_duration_ms` or `was_successful=true` the service looks through
    50,000 calls for it. A page that takes longer than `LIST_TIMEOUT_MS` is answered 503: narrow the list then, with
    `model_name`, `from` and `to`.
    """
    page = services().readers.ask(lambda reader: reader.predictions.page(**query))
    response = Response(page_json(page), mimetype="application/json")
    if page.next is not None:
        response.headers["Link"] = link_to_next_page(_encode(page.next))
    return response


@blp.route("/predictions/<prediction_id>")
@blp.arguments(PredictionPathSchema(), location="path")
@blp.response(200, PredictionSchema, example=STORED)
@blp.errors(404, 422, 503)
@blp.doc(operationId="get_prediction")
def get_prediction(path: dict[str, int], **_: str) -> Prediction:
    """Look at one logged call."""
    return services().predictions.get(path["prediction_id"], models())


@blp.route("/predictions/<prediction_id>", methods=["DELETE"])
@blp.arguments(PredictionPathSchema(), location="path")
@blp.response(200, MessageSchema, example={"message": "Предсказание успешно удалено"})
@blp.errors(404, 422, 503)
@blp.doc(operationId="delete_prediction")
def delete_prediction(path: dict[str, int], **_: str) -> dict[str, str]:
    """Delete one logged call, from the statistics as well."""
    services().predictions.delete(path["prediction_id"])
    audit("prediction.deleted", prediction=path["prediction_id"])
    return {"message": "Предсказание успешно удалено"}


def _encode(cursor: Cursor) -> str:
    text = json.dumps([cursor.timestamp.isoformat(), cursor.id], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode_cursor(text: str) -> Cursor:
    """The place in the list that a cursor stands for. Raises InvalidInput."""
    try:
        padded = text + "=" * (-len(text) % 4)
        timestamp, id = json.loads(base64.b64decode(padded, altchars="-_", validate=True))
        if type(id) is not int or not 0 < id <= MAX_ID:
            raise ValueError
        return Cursor(parse_instant(timestamp), id)
    except (ValueError, TypeError, binascii.Error, RecursionError):
        raise InvalidInput("cursor", "Not a cursor that this service has given out.") from None
