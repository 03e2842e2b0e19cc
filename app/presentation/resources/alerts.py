"""The states of the alerts, and their history."""

from __future__ import annotations

from typing import Any

import marshmallow as ma
from flask import Response
from marshmallow.validate import Length, Range

from app.domain.predictions import MAX_MODEL_NAME_LENGTH
from app.presentation.api import Blueprint
from app.presentation.middleware.authentication import models as allowed_models
from app.presentation.middleware.authentication import readable
from app.presentation.pagination import link_to_next_page
from app.presentation.schemas.alerts import (
    EVENT_EXAMPLE,
    EXAMPLE,
    AlertEventSchema,
    AlertsSchema,
    written_event,
    written_rule,
)
from app.presentation.schemas.fields import QueryInteger, Text, name
from app.presentation.schemas.ranges import MAX_MODELS
from app.presentation.schemas.statistics import as_json
from app.presentation.services import services

blp = Blueprint(
    "alerts", __name__, url_prefix="/api/v1", description="Which limits are breached, and which messages were sent"
)

MAX_EVENT_ID = 2**63 - 1


class AlertsQuerySchema(ma.Schema):
    """Which alerts."""

    model_name = ma.fields.List(
        name(MAX_MODEL_NAME_LENGTH),
        load_default=[],
        validate=Length(max=MAX_MODELS, error=f"At most {MAX_MODELS} models."),
        metadata={
            "description": "Only alerts about this model; repeat it for several.",
            "example": ["apartment_price_v1"],
        },
    )


class HistoryQuerySchema(AlertsQuerySchema):
    """Which events."""

    rule = Text(metadata={"description": "Only events of this rule.", "example": "price errors"})
    limit = QueryInteger(
        load_default=100, validate=Range(1, 200), metadata={"description": "How many at most, 1 to 200."}
    )
    cursor = QueryInteger(
        validate=Range(1, MAX_EVENT_ID),
        metadata={"description": "The cursor in the Link header of the page before."},
    )


@blp.route("/alerts")
@blp.arguments(AlertsQuerySchema(), location="query")
@blp.response(200, AlertsSchema, example=EXAMPLE)
@blp.errors(422, 503)
def list_alerts(query: dict[str, Any]) -> dict[str, Any]:
    """List every rule of the file of alerts with its state, and that of each model that it watches.

    `pending` is breached, but not for as long as the rule wants; `resolved` is `ok` for an hour after it has fired;
    `no data` means that there were too few predictions, or that clients dropped so many that no figure can be trusted:
    `measured` says which.
    """
    names = readable(query["model_name"])
    alerts = services().alerts
    if alerts is None:
        return {"enabled": False, "rules": []}
    by_rule: dict[str, list[Any]] = {rule.name: [] for rule in alerts.rules}
    for measured in alerts.measured():
        if not names or measured.key.model_name in names:
            by_rule[measured.key.rule].append(measured)
    left_out = alerts.left_out()
    rules = [
        _rule(rule, by_rule[rule.name], left_out[rule.name]) for rule in alerts.rules if by_rule[rule.name] or not names
    ]
    return {"enabled": True, "rules": rules}


@blp.route("/alerts/history")
@blp.arguments(HistoryQuerySchema(), location="query")
@blp.response(
    200,
    AlertEventSchema(many=True),
    example=[EVENT_EXAMPLE],
    description="Events of alerts, the latest first",
    headers={"Link": {"description": 'The next page, as `<…>; rel="next"`.', "schema": {"type": "string"}}},
)
@blp.errors(422, 503)
def history(query: dict[str, Any]) -> Any:
    """List when alerts fired, were resolved, or could not be measured, and the state of each message.

    Kept for 90 days. While there is more, the header `Link` with `rel="next"` has the address of the next page,
    relative to this one.
    """
    names, limit = readable(query["model_name"]), query["limit"]
    alerts = services().alerts
    events = alerts.history(names, query.get("rule"), query.get("cursor"), limit + 1) if alerts else []
    response: Response = as_json(AlertEventSchema(many=True).dump([written_event(event) for event in events[:limit]]))
    if len(events) > limit:
        response.headers["Link"] = link_to_next_page(str(events[limit - 1].id))
    return response


def _rule(rule: Any, alerts: list[Any], left_out: int) -> dict[str, Any]:
    """Return a rule with the models that the key may read, and nothing of other models."""
    written = written_rule(rule, alerts, left_out)
    allowed = allowed_models()
    if allowed is not None:
        written["models_left_out"] = None
        written["models"] = [model for model in rule.models if model in allowed]
    return written
