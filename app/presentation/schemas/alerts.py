"""Alerts and their history as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import marshmallow as ma

from app.application.alerts import MAX_MODELS, Measured, PastEvent
from app.domain.alert_rules import Rule
from app.domain.alert_states import State
from app.presentation.schemas.fields import Instant

# The state of a rule is the first of these that one of its alerts is in.
WORST_FIRST = (State.FIRING, State.PENDING, State.NO_DATA, State.RESOLVED, State.OK)
MEASURED = "error rate 7.2 % (72 of 1,000 predictions in 15 minutes), limit 2 %"
ALERT_EXAMPLE = {
    "model_name": "apartment_price_v1",
    "state": "firing",
    "since": "2025-06-09T12:00:00+00:00",
    "value": 0.072,
    "measured": MEASURED,
    "evaluated_at": "2025-06-09T12:20:00+00:00",
}
EXAMPLE = {
    "enabled": True,
    "rules": [
        {
            "name": "price errors",
            "models": ["apartment_price_*"],
            "model_version": None,
            "condition": "error rate in 15 minutes above 2 %",
            "for_s": 300,
            "models_left_out": 0,
            "state": "firing",
            "alerts": [ALERT_EXAMPLE],
        }
    ],
}
EVENT_EXAMPLE = {
    "id": 7,
    "rule": "price errors",
    "model_name": "apartment_price_v1",
    "state": "firing",
    "value": 0.072,
    "measured": MEASURED,
    "at": "2025-06-09T12:00:00+00:00",
    "messages": [
        {
            "webhook": "team",
            "id": "0197a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b",
            "attempts": 1,
            "delivered_at": "2025-06-09T12:00:01+00:00",
            "given_up_at": None,
            "problem": None,
        }
    ],
}


class AlertSchema(ma.Schema):
    """One model as a rule watches it."""

    model_name = ma.fields.String(required=True)
    state = ma.fields.String(required=True, metadata={"enum": [state.value for state in State]})
    since = Instant(required=True, metadata={"description": "When it entered this state."})
    value = ma.fields.Float(required=True, allow_none=True, metadata={"description": "The last measured value."})
    measured = ma.fields.String(required=True, metadata={"description": "The same in words."})
    evaluated_at = Instant(required=True)


class RuleStateSchema(ma.Schema):
    """A rule, and its alerts: one for each model that it watches."""

    name = ma.fields.String(required=True)
    models = ma.fields.List(ma.fields.String(), required=True, metadata={"description": "Names and patterns."})
    model_version = ma.fields.String(required=True, allow_none=True)
    condition = ma.fields.String(required=True, metadata={"description": "The breach in words."})
    for_s = ma.fields.Float(required=True, metadata={"description": "Seconds that a breach lasts before it fires."})
    models_left_out = ma.fields.Integer(
        required=True,
        allow_none=True,
        metadata={
            "description": f"How many more models match the rule than the {MAX_MODELS} that it watches, the first ones "
            "by their names; null for a key that is bound to models."
        },
    )
    state = ma.fields.String(
        required=True,
        allow_none=True,
        metadata={
            "enum": [state.value for state in State],
            "description": "The worst state of its alerts; null if it has none yet.",
        },
    )
    alerts = ma.fields.List(ma.fields.Nested(AlertSchema), required=True)


class AlertsSchema(ma.Schema):
    """All rules."""

    enabled = ma.fields.Boolean(required=True, metadata={"description": "Whether the service has a file of rules."})
    rules = ma.fields.List(ma.fields.Nested(RuleStateSchema), required=True)


class AlertMessageSchema(ma.Schema):
    """The state of the message to one webhook."""

    webhook = ma.fields.String(required=True)
    id = ma.fields.UUID(required=True, metadata={"description": "The header Idempotency-Key of each attempt."})
    attempts = ma.fields.Integer(required=True)
    delivered_at = Instant(required=True, allow_none=True)
    given_up_at = Instant(required=True, allow_none=True)
    problem = ma.fields.String(required=True, allow_none=True, metadata={"description": "Why the last one failed."})


class AlertEventSchema(ma.Schema):
    """A change of an alert that messages were sent about."""

    id = ma.fields.Integer(required=True)
    rule = ma.fields.String(required=True)
    model_name = ma.fields.String(required=True)
    state = ma.fields.String(required=True, metadata={"enum": ["firing", "resolved", "no data"]})
    value = ma.fields.Float(required=True, allow_none=True)
    measured = ma.fields.String(required=True)
    at = Instant(required=True)
    messages = ma.fields.List(ma.fields.Nested(AlertMessageSchema), required=True)


def written_rule(rule: Rule, alerts: Sequence[Measured], left_out: int) -> dict[str, Any]:
    """Return a rule as RuleStateSchema describes it."""
    states = {measured.alert.state for measured in alerts}
    return {
        "name": rule.name,
        "models": rule.models,
        "model_version": rule.model_version,
        "condition": rule.measure.condition,
        "for_s": rule.hold.total_seconds(),
        "models_left_out": left_out,
        "state": next((state.value for state in WORST_FIRST if state in states), None),
        "alerts": [_alert(measured) for measured in alerts],
    }


def _alert(measured: Measured) -> dict[str, Any]:
    return {
        "model_name": measured.key.model_name,
        "state": measured.alert.state.value,
        "since": measured.alert.since,
        "value": _rounded(measured.value),
        "measured": measured.text,
        "evaluated_at": measured.at,
    }


def written_event(event: PastEvent) -> dict[str, Any]:
    """Return an event as AlertEventSchema describes it."""
    return {
        "id": event.id,
        "rule": event.key.rule,
        "model_name": event.key.model_name,
        "state": event.state.value,
        "value": _rounded(event.value),
        "measured": event.text,
        "at": event.at,
        "messages": [message._asdict() for message in event.messages],
    }


def _rounded(value: float | None) -> float | None:
    """Round to six digits, because more would only look exact."""
    return None if value is None else float(f"{value:.6g}")
