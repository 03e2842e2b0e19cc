"""Log predictions, list them, look at one, delete one."""

from __future__ import annotations

from typing import Any

import marshmallow as ma
from flask import Response
from marshmallow.validate import Range

from app.domain.predictions import Prediction
from app.presentation.api import Blueprint
from app.presentation.audit import audit
from app.presentation.instruments import meters
from app.presentation.middleware.authentication import check_model, models
from app.presentation.middleware.rate_limit import caller
from app.presentation.pagination import encode_cursor, link_to_next_page
from app.presentation.schemas.fields import QueryInteger
from app.presentation.schemas.prediction_list import page_json
from app.presentation.schemas.prediction_query import MAX_ID, PredictionQuerySchema
from app.presentation.schemas.predictions import PredictionSchema
from app.presentation.services import services

blp = Blueprint("predictions", __name__, url_prefix="/api/v1", description="Logged predictions, one by one")

EXAMPLE = {
    "model_name": "apartment_price_v1",
    "duration_ms": 124,
    "was_successful": True,
    "timestamp": "2025-06-09T12:00:00Z",
}
STORED = {"id": 1, **EXAMPLE, "timestamp": "2025-06-09T12:00:00+00:00"}


class PredictionPathSchema(ma.Schema):
    """Which prediction."""

    prediction_id = QueryInteger(
        required=True, validate=Range(1, MAX_ID), metadata={"description": "The prediction's id.", "example": 1}
    )


class MessageSchema(ma.Schema):
    """A sentence."""

    message = ma.fields.String(required=True)


def links(pointer: str) -> dict[int, Any]:
    """Return OpenAPI links to the operations on the prediction whose id is at `pointer` in an answer."""
    parameters = {"prediction_id": f"$response.body#{pointer}"}
    names = ("get_prediction", "delete_prediction")
    return {200: {"links": {name: {"operationId": name, "parameters": parameters} for name in names}}}


@blp.route("/predict-log", methods=["POST"])
@blp.doc(responses=links("/id"))
@blp.arguments(PredictionSchema(), example=EXAMPLE)
@blp.response(200, PredictionSchema, example=STORED, description="The stored prediction")
@blp.errors(400, 408, 409, 413, 415, 422, 503)
def log_prediction(prediction: Prediction) -> Prediction:
    """Log one prediction of a model.

    The answer comes after the prediction is committed. A prediction with a `request_id` may be sent again without harm:
    the same `request_id` and `timestamp` return the first one and store nothing. If the `timestamp` is left out, it is
    taken from the `request_id`, which must be a UUIDv7 then. If a prediction of another model has both, the answer is
    409 and tells nothing of that prediction; on Citus that is another prediction, and this one is stored. `null` in an
    optional field means "not given".
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
    description="The newest predictions first",
    headers={"Link": {"description": 'The next page, as `<…>; rel="next"`.', "schema": {"type": "string"}}},
)
@blp.errors(422, 503)
def list_predictions(query: dict[str, Any]) -> Response:
    """List logged predictions, newest first.

    While there is more, the header `Link` with `rel="next"` has the address of the next page, relative to this one:
    follow it until there is none. A page may have fewer predictions than `limit`, or none, and still have a next page:
    it holds a megabyte, and with `model_version`, `min_duration_ms` or `was_successful=true` the service searches
    50,000 predictions for it. A page that takes longer than `LIST_TIMEOUT_MS` is answered 503: narrow the list then,
    with `model_name`, `from` and `to`.
    """
    page = services().readers.ask(lambda reader: reader.prediction_list.page(**query))
    response = Response(page_json(page), mimetype="application/json")
    if page.next is not None:
        response.headers["Link"] = link_to_next_page(encode_cursor(page.next.timestamp.isoformat(), page.next.id))
    return response


@blp.route("/predictions/<prediction_id>")
@blp.arguments(PredictionPathSchema(), location="path")
@blp.response(200, PredictionSchema, example=STORED)
@blp.errors(404, 422, 503)
@blp.doc(operationId="get_prediction")
def get_prediction(path: dict[str, int], **_: str) -> Prediction:
    """Return one logged prediction."""
    return services().predictions.get(path["prediction_id"], models())


@blp.route("/predictions/<prediction_id>", methods=["DELETE"])
@blp.arguments(PredictionPathSchema(), location="path")
@blp.response(200, MessageSchema, example={"message": "Предсказание успешно удалено"})
@blp.errors(404, 422, 503)
@blp.doc(operationId="delete_prediction")
def delete_prediction(path: dict[str, int], **_: str) -> dict[str, str]:
    """Delete one logged prediction, from the statistics as well."""
    services().predictions.delete(path["prediction_id"])
    audit("prediction.deleted", prediction=path["prediction_id"])
    return {"message": "Предсказание успешно удалено"}
