"""Statistics over any range: in total, by group, over time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

import marshmallow as ma
from flask import Response, jsonify
from marshmallow.validate import ContainsOnly, Length, OneOf
from webargs.fields import DelimitedList

from app.application.statistics import Answer, Key, Question
from app.domain.errors import InvalidInput
from app.domain.instants import DAY, TimeRange, parse_bound, parse_zone
from app.domain.predictions import EARLIEST, FUTURE_TOLERANCE, MODEL_NAME_LENGTH, MODEL_VERSION_LENGTH, shortest_number
from app.domain.sketch import RELATIVE_ERROR
from app.domain.statistics import DEFAULT_PERCENTILES, GROUP_KEYS, Selection, Tally
from app.domain.timeline import BUCKETS, choose_bucket, timeline
from app.presentation.api import Blueprint
from app.presentation.fields import Instant, Milliseconds, Text, name
from app.presentation.services import services

blp = Blueprint("statistics", __name__, url_prefix="/api/v1", description="How many calls, how many failed, how fast")

MODELS_AT_MOST = 50
PERCENTILES_AT_MOST = 20
ALWAYS = datetime(9999, 1, 1, tzinfo=timezone.utc)
NOTHING = Tally()

TALLY_EXAMPLE = {
    "total_requests": 500,
    "successful_requests": 480,
    "failed_requests": 20,
    "success_rate": 0.96,
    "average_duration_ms": 132.6,
    "min_duration_ms": 48,
    "max_duration_ms": 917.25,
    "percentiles": {"50": 121.4, "90": 201.1, "95": 246.2, "99": 402.7},
    "dropped": 0,
    "completeness": 1.0,
}
ANSWER_EXAMPLE = {
    "range": {"from": "2025-06-01T00:00:00+00:00", "to": "2025-06-10T00:00:00+00:00"},
    "cut_to_request": True,
    "percentile_relative_error": RELATIVE_ERROR,
    "freshness": {"materialized_to": "2025-06-10T08:59:00+00:00", "raw_share": 0.0, "hours_pending_repair": 0},
}
STATS_EXAMPLE = TALLY_EXAMPLE | ANSWER_EXAMPLE
SERIES_EXAMPLE = {
    "bucket": "1d",
    "timezone": "UTC",
    "points": [{"from": "2025-06-01T00:00:00+00:00", "to": "2025-06-02T00:00:00+00:00", **TALLY_EXAMPLE}],
    **ANSWER_EXAMPLE,
}


class Percentile(ma.fields.Float):
    """A number from 0 to 100."""

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> float:
        number: float = super()._deserialize(value, *args, **kwargs)
        if not 0 <= number <= 100:
            raise ma.ValidationError("Must be between 0 and 100.")
        return number


class SelectionSchema(ma.Schema):
    """Which calls to look at."""

    model_name = ma.fields.List(
        name(MODEL_NAME_LENGTH),
        load_default=[],
        validate=Length(max=MODELS_AT_MOST, error=f"At most {MODELS_AT_MOST} models."),
        metadata={"description": "Only calls of this model; repeat it for several.", "example": ["apartment_price_v1"]},
    )
    model_version = name(MODEL_VERSION_LENGTH, metadata={"description": "Only calls of this version."})
    timezone = Text(
        load_default="UTC",
        metadata={"description": "IANA time zone of the dates and of days in a series.", "example": "Europe/Berlin"},
    )
    percentiles = DelimitedList(
        Percentile(),
        load_default=list(DEFAULT_PERCENTILES),
        validate=Length(max=PERCENTILES_AT_MOST, error=f"At most {PERCENTILES_AT_MOST} percentiles."),
        metadata={"description": "Which percentiles of the duration, 0 to 100.", "example": [50, 90, 95, 99]},
    )


class RangeSchema(SelectionSchema):
    """Which calls, and over which range."""

    from_date = Text(
        metadata={"description": "First day, or first instant. Default: the beginning.", "example": "2025-06-01"}
    )
    to_date = Text(
        metadata={
            "description": "Last day (included), or an instant (not included). Default: now.",
            "example": "2025-06-09",
        }
    )
    start = Text(data_key="from", metadata={"description": "The same as `from_date`."})
    end = Text(data_key="to", metadata={"description": "The same as `to_date`."})

    def beginning(self, end: datetime) -> datetime:
        """Where a range begins that names no beginning."""
        return min(EARLIEST, end)

    @ma.post_load
    def to_question(self, data: dict[str, Any], **_: Any) -> dict[str, Any]:
        try:
            zone = parse_zone(data.pop("timezone"))
        except ValueError as error:
            raise ma.ValidationError(str(error), "timezone") from None
        start = _bound(data, "from_date", "from", "start")
        end = _bound(data, "to_date", "to", "end")
        until = parse_bound(*end, zone, is_end=True) if end else _now()
        range = TimeRange(parse_bound(*start, zone, is_end=False) if start else self.beginning(until), until)
        if start and range.start > range.end:
            raise InvalidInput(start[0], "Must not be after the end of the range.")
        selection = Selection(tuple(sorted(set(data.pop("model_name")))), data.pop("model_version", None))
        return {"selection": selection, "range": range, "zone": zone, **data}


class StatsQuerySchema(RangeSchema):
    """What to count, and by what."""

    group_by = DelimitedList(
        ma.fields.String(),
        load_default=[],
        validate=ContainsOnly(GROUP_KEYS),
        metadata={"description": "Count by `model_name`, by `model_version`, or by both.", "example": ["model_name"]},
    )


class SeriesQuerySchema(RangeSchema):
    """What to count, over which points of time."""

    bucket = ma.fields.String(
        load_default="auto",
        validate=OneOf([*BUCKETS, "auto"]),
        metadata={"description": "How long a point is; `auto` makes about 60 points.", "example": "1h"},
    )

    def beginning(self, end: datetime) -> datetime:
        """A series that names no beginning is a day long."""
        return end - DAY


class TallySchema(ma.Schema):
    """How many calls, how many of them succeeded, and how long they took."""

    total_requests = ma.fields.Integer(required=True)
    successful_requests = ma.fields.Integer(required=True)
    failed_requests = ma.fields.Integer(required=True)
    success_rate = ma.fields.Float(
        required=True, allow_none=True, metadata={"description": "0 to 1; null without calls."}
    )
    average_duration_ms = Milliseconds(required=True, allow_none=True, metadata={"description": "null without calls."})
    min_duration_ms = Milliseconds(required=True, allow_none=True)
    max_duration_ms = Milliseconds(required=True, allow_none=True)
    percentiles = ma.fields.Dict(
        keys=ma.fields.String(),
        values=Milliseconds(allow_none=True),
        required=True,
        metadata={"description": "Duration in milliseconds by percentile; null without calls."},
    )
    dropped = ma.fields.Integer(
        required=True,
        metadata={"description": "Calls that clients reported as thrown away; known by model, not by version."},
    )
    completeness = ma.fields.Float(
        required=True,
        allow_none=True,
        metadata={"description": "Share of the calls known of that were logged, 0 to 1; null where none are known of."},
    )


class GroupSchema(TallySchema):
    """The same for one group; `model_version` is null where the calls were logged without one."""

    model_name = ma.fields.String()
    model_version = ma.fields.String(allow_none=True)


class PointSchema(TallySchema):
    """The same for one point of time, which begins at `from` (included) and ends at `to` (not included)."""

    start = Instant(data_key="from", required=True)
    end = Instant(data_key="to", required=True)


class SpanSchema(ma.Schema):
    """A range of time; `from` belongs to it, `to` does not."""

    start = Instant(data_key="from", required=True)
    end = Instant(data_key="to", required=True)


class FreshnessSchema(ma.Schema):
    """How the answer was made."""

    materialized_to = Instant(
        required=True,
        allow_none=True,
        metadata={
            "description": "The aggregates' watermark, what is later was read raw; null where they are always exact."
        },
    )
    raw_share = ma.fields.Float(
        required=True, metadata={"description": "Share of the calls that was read from raw rows."}
    )
    hours_pending_repair = ma.fields.Integer(
        required=True,
        metadata={"description": "Hours that changed after they were materialised, read raw until repaired."},
    )


class AnswerSchema(ma.Schema):
    """What is common to all answers."""

    range = ma.fields.Nested(SpanSchema, required=True, metadata={"description": "The range that was counted."})
    cut_to_request = ma.fields.Boolean(
        required=True,
        metadata={"description": "False where raw rows are gone and `range` had to be widened to whole buckets."},
    )
    percentile_relative_error = ma.fields.Float(
        required=True, metadata={"description": "How far a percentile may be from the true one, as a share of it."}
    )
    freshness = ma.fields.Nested(FreshnessSchema, required=True)


class StatsSchema(TallySchema, AnswerSchema):
    """Statistics over a range."""

    groups = ma.fields.List(
        ma.fields.Nested(GroupSchema), metadata={"description": "With `group_by`: one for each group."}
    )


class SeriesSchema(AnswerSchema):
    """Statistics over time."""

    bucket = ma.fields.String(required=True)
    timezone = ma.fields.String(required=True)
    points = ma.fields.List(ma.fields.Nested(PointSchema), required=True)


@blp.route("/stats")
@blp.arguments(StatsQuerySchema(), location="query")
@blp.response(200, StatsSchema, example=STATS_EXAMPLE)
@blp.errors(422, 503)
def stats(query: dict[str, Any]) -> Response:
    """Count calls and failures and measure durations over any range, exactly.

    Dates are whole days of `timezone`, the last one included; instants bound a half-open range. The counts, the
    average and the extremes are those of a full scan of the log at the moment of the answer; each percentile is within
    `percentile_relative_error` of the true one. A model that nobody has logged has zeros and nulls.
    """
    group_by = tuple(key for key in GROUP_KEYS if key in query["group_by"])
    percentiles = query["percentiles"]
    question = Question(query["selection"], query["range"], group_by, latency=bool(percentiles))
    answer = services().statistics.ask(question)
    body = _tally(answer.total, percentiles) | _common(question, answer)
    if group_by:
        ordered = sorted(item for item in answer.tallies.items() if getattr(item[0], group_by[-1]) is not None)
        body["groups"] = [_group(key, group_by) | _tally(tally, percentiles) for key, tally in ordered]
    return jsonify(body)


@blp.route("/stats/timeseries")
@blp.arguments(SeriesQuerySchema(), location="query")
@blp.response(200, SeriesSchema, example=SERIES_EXAMPLE)
@blp.errors(422, 503)
def timeseries(query: dict[str, Any]) -> Response:
    """Give the same statistics by points of time, with zeros where nothing was called.

    Points begin at full buckets of the clock of `timezone`; the first and the last are cut to the range.
    Without `from` the range is the day before its end.
    """
    range, percentiles = query["range"], query["percentiles"]
    bucket = choose_bucket(range) if query["bucket"] == "auto" else query["bucket"]
    series = timeline(range, bucket, query["zone"])
    question = Question(query["selection"], range, series=series, latency=bool(percentiles))
    answer = services().statistics.ask(question)
    points = [
        {"from": start.isoformat(), "to": end.isoformat()} | _tally(answer.tallies.get(Key(i), NOTHING), percentiles)
        for i, (start, end) in enumerate(zip(series.edges, series.edges[1:]))
    ]
    return jsonify({"bucket": bucket, "timezone": str(query["zone"]), "points": points} | _common(question, answer))


# Written by hand, not dumped by the schemas above: for a series that would take longer than the database does.
def _tally(tally: Tally, percentiles: Sequence[float]) -> dict[str, Any]:
    values = zip(percentiles, tally.percentiles(percentiles))
    return {
        "total_requests": tally.total,
        "successful_requests": tally.successful,
        "failed_requests": tally.failed,
        "success_rate": tally.success_rate,
        "average_duration_ms": _milliseconds(tally.average_duration_ms),
        "min_duration_ms": _milliseconds(tally.duration_ms_min),
        "max_duration_ms": _milliseconds(tally.duration_ms_max),
        "percentiles": {f"{percentile:g}": _milliseconds(value) for percentile, value in values},
        "dropped": tally.dropped,
        "completeness": tally.completeness,
    }


def _group(key: Key, group_by: Sequence[str]) -> dict[str, Any]:
    return {name: getattr(key, name) or None for name in group_by}


def _common(question: Question, answer: Answer) -> dict[str, Any]:
    freshness = answer.freshness
    return {
        "range": {"from": answer.range.start.isoformat(), "to": answer.range.end.isoformat()},
        "cut_to_request": answer.range == question.range,
        "percentile_relative_error": RELATIVE_ERROR,
        "freshness": {
            "materialized_to": None if freshness.materialized_to >= ALWAYS else freshness.materialized_to.isoformat(),
            "raw_share": freshness.raw_share,
            "hours_pending_repair": freshness.hours_pending_repair,
        },
    }


def _milliseconds(value: float | None) -> int | float | None:
    return None if value is None else shortest_number(value)


def _bound(data: dict[str, Any], name: str, alias: str, attribute: str) -> tuple[str, str] | None:
    """The text of a bound and the name it was sent under."""
    if name in data and attribute in data:
        raise InvalidInput(alias, f"Given twice: `{name}` and `{alias}` are the same.")
    sent = [(name, data.pop(name))] if name in data else [(alias, data.pop(attribute))] if attribute in data else []
    return sent[0] if sent else None


def _now() -> datetime:
    """The end of a range that was left open: whatever may have been logged by now."""
    return datetime.now(timezone.utc).replace(second=0, microsecond=0) + FUTURE_TOLERANCE + timedelta(minutes=1)
