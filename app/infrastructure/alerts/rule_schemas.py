"""Schemas of the rules in alerts.toml, one for each measure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import marshmallow as ma
from marshmallow.validate import Length, OneOf, Range

from app.domain.alert_changes import Change
from app.domain.alert_measures import (
    Completeness,
    ErrorRate,
    Measure,
    Percentile,
    ShareUnder,
    Silence,
)
from app.domain.alert_rules import Rule
from app.domain.burn_rate import FAST, SLOW, BurnRate
from app.domain.predictions import text_problem

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
DURATION = re.compile(r"([0-9]{1,6}) ?([smhd])", re.ASCII)
MAX_WINDOW = timedelta(days=400)
SPEEDS = {"fast": FAST, "slow": SLOW}


class Duration(ma.fields.Field[timedelta]):
    """A number with a unit: 30s, 5m, 12h, 7d."""

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> timedelta:
        match = DURATION.fullmatch(value) if isinstance(value, str) else None
        length = timedelta(**{UNITS[match[2]]: int(match[1])}) if match else None
        if length is None or length > MAX_WINDOW:
            raise ma.ValidationError('Not a duration like "30s", "5m", "12h" or "7d", at most 400 days.')
        return length


class Number(ma.fields.Float):
    """A finite number, which TOML writes without quotes."""

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ma.ValidationError("Not a number.")
        return float(super()._deserialize(value, *args, **kwargs))


def text(**kwargs: Any) -> ma.fields.String:
    return ma.fields.String(validate=[Length(1, 500), _storable], **kwargs)


def _storable(value: str) -> None:
    if problem := text_problem(value):
        raise ma.ValidationError(problem)


def _window() -> Duration:
    return Duration(required=True, validate=Range(min=timedelta(seconds=10), error="Must be at least 10s."))


def _share(*, required: bool = True, **kwargs: Any) -> Number:
    return Number(required=required, validate=Range(0, 1, error="Must be a share, from 0 to 1."), **kwargs)


def _confidence() -> Number:
    return Number(load_default=0.95, validate=Range(0.5, 0.9999))


class RuleSchema(ma.Schema):
    """The fields of every rule; the measures add their own."""

    name = text(required=True)
    models = ma.fields.List(text(), required=True, validate=Length(1, 100))
    version = ma.fields.String(validate=_storable)
    measure = ma.fields.String(required=True)
    hold = Duration(data_key="for", load_default=timedelta())
    min_predictions = ma.fields.Integer(strict=True, load_default=1, validate=Range(min=1))
    min_completeness = _share(required=False, load_default=0.9)
    webhooks = ma.fields.List(text(), load_default=[])

    def measured(self, data: Any) -> Measure:
        """Return the measure of the rule. Each kind of rule is a schema of its own, and has to say it."""
        raise NotImplementedError

    @ma.post_load
    def to_rule(self, data: dict[str, Any], **_: Any) -> Rule:
        return Rule(
            name=data["name"],
            models=tuple(data["models"]),
            measure=self.measured(data),
            hold=data["hold"],
            model_version=data.get("version"),
            min_predictions=data["min_predictions"],
            min_completeness=data["min_completeness"],
            webhooks=tuple(data["webhooks"]),
        )


class ErrorRateSchema(RuleSchema):
    window = _window()
    above = _share()
    confidence = _confidence()

    def measured(self, data: Any) -> Measure:
        return ErrorRate(data["window"], data["above"], data["confidence"])


class ShareUnderSchema(RuleSchema):
    window = _window()
    under_ms = Number(required=True, validate=Range(min=0))
    below = _share()
    confidence = _confidence()

    def measured(self, data: Any) -> Measure:
        return ShareUnder(data["window"], data["under_ms"], data["below"], data["confidence"])


class PercentileSchema(RuleSchema):
    window = _window()
    percentile = Number(required=True, validate=Range(0, 100))
    above = Number(required=True, validate=Range(min=0))
    confidence = _confidence()

    def measured(self, data: Any) -> Measure:
        return Percentile(data["window"], data["percentile"], data["above"], data["confidence"])


class SilenceSchema(RuleSchema):
    window = _window()

    def measured(self, data: Any) -> Measure:
        return Silence(data["window"])


class CompletenessSchema(RuleSchema):
    window = _window()
    below = _share()

    def measured(self, data: Any) -> Measure:
        return Completeness(data["window"], data["below"])


class ChangeSchema(RuleSchema):
    window = _window()
    of = ma.fields.String(required=True, validate=OneOf(["error_rate", "percentile"]))
    percentile = Number(validate=Range(0, 100))
    above = Number(validate=Range(min=0))
    confidence = _confidence()
    ago = Duration(validate=Range(min=timedelta(minutes=1), error="Must be at least 1m."))
    against_version = ma.fields.String(validate=_storable)

    @ma.validates_schema
    def check(self, data: Mapping[str, Any], **_: Any) -> None:
        if ("ago" in data) == ("against_version" in data):
            raise ma.ValidationError("Give either ago or against_version.", "ago")
        if "against_version" in data and data.get("version") in (None, data["against_version"]):
            raise ma.ValidationError("Give the version that is compared with another one.", "version")
        if (data["of"] == "percentile") != ("percentile" in data):
            raise ma.ValidationError('Belongs to of = "percentile", and to nothing else.', "percentile")
        if "ago" in data and data["ago"] < data["window"]:
            raise ma.ValidationError("Must not be shorter than the window: the two would share predictions.", "ago")

    def measured(self, data: Any) -> Measure:
        return Change(
            data["window"],
            data.get("percentile"),
            data.get("above", 0.0 if data["of"] == "error_rate" else 1.0),
            data["confidence"],
            data.get("ago"),
            data.get("against_version"),
        )


class BurnRateSchema(RuleSchema):
    objective = Number(
        required=True,
        validate=Range(0, 1, min_inclusive=False, max_inclusive=False, error="Must be between 0 and 1, as 0.999."),
    )
    period = Duration(load_default=timedelta(days=30), validate=Range(min=timedelta(days=7), error="At least 7d."))
    speed = ma.fields.String(load_default="fast", validate=OneOf(list(SPEEDS)))
    under_ms = Number(validate=Range(min=0))

    def measured(self, data: Any) -> Measure:
        return BurnRate(data["objective"], data["period"], SPEEDS[data["speed"]], data.get("under_ms"))


MEASURES: dict[str, type[RuleSchema]] = {
    "error_rate": ErrorRateSchema,
    "share_under": ShareUnderSchema,
    "percentile": PercentileSchema,
    "silence": SilenceSchema,
    "completeness": CompletenessSchema,
    "change": ChangeSchema,
    "burn_rate": BurnRateSchema,
}
