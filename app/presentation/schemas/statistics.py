"""The common part of all answers about many predictions: a tally, its range and its freshness as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from functools import lru_cache
from typing import Any

import marshmallow as ma
import msgspec
from flask import Response

from app.application.statistics import Answer, Question
from app.domain.predictions import shortest_number
from app.domain.sketch import RELATIVE_ERROR, Share
from app.domain.statistics import Tally
from app.presentation.schemas.fields import Instant, Milliseconds

ALWAYS = datetime(9999, 1, 1, tzinfo=timezone.utc)

DROPPED = (
    "Predictions that clients reported as dropped. They are known by model, not by version: with a version they are "
    "those of all versions of the models, and a group of a version has 0."
)
COMPLETENESS = (
    "Share of logged predictions among logged and dropped ones, 0 to 1; null if there are none. With a version the "
    "true share is at least this, because `dropped` is that of all versions; in groups of versions it is null if any "
    "were dropped."
)
TALLY_EXAMPLE = {
    "total_requests": 500,
    "successful_requests": 480,
    "failed_requests": 20,
    "success_rate": 0.96,
    "average_duration_ms": 132.6,
    "min_duration_ms": 48,
    "max_duration_ms": 917.25,
    "percentiles": {"50": 121.4, "90": 201.1, "95": 246.2, "99": 402.7},
    "summarized": 0,
    "dropped": 0,
    "completeness": 1.0,
}
ANSWER_EXAMPLE = {
    "range": {"from": "2025-06-01T00:00:00+00:00", "to": "2025-06-10T00:00:00+00:00"},
    "cut_to_request": True,
    "percentile_relative_error": RELATIVE_ERROR,
    "freshness": {
        "materialized_to": "2025-06-10T08:59:00+00:00",
        "raw_share": 0.0,
        "hours_pending_repair": 0,
        "replica_lag_s": None,
    },
}


class ShareSchema(ma.Schema):
    """A share of the predictions, 0 to 1."""

    share = ma.fields.Float(required=True)
    low = ma.fields.Float(required=True, metadata={"description": "The true share is not less than this."})
    high = ma.fields.Float(required=True, metadata={"description": "The true share is not more than this."})


class TallySchema(ma.Schema):
    """How many predictions there were, how many of them succeeded, and how long they took."""

    total_requests = ma.fields.Integer(required=True)
    successful_requests = ma.fields.Integer(required=True)
    failed_requests = ma.fields.Integer(required=True)
    success_rate = ma.fields.Float(
        required=True, allow_none=True, metadata={"description": "0 to 1; null without predictions."}
    )
    average_duration_ms = Milliseconds(
        required=True, allow_none=True, metadata={"description": "null without predictions."}
    )
    min_duration_ms = Milliseconds(required=True, allow_none=True)
    max_duration_ms = Milliseconds(required=True, allow_none=True)
    percentiles = ma.fields.Dict(
        keys=ma.fields.String(),
        values=Milliseconds(allow_none=True),
        required=True,
        metadata={"description": "Duration in milliseconds by percentile; null without predictions."},
    )
    under_ms = ma.fields.Dict(
        keys=ma.fields.String(),
        values=ma.fields.Nested(ShareSchema, allow_none=True),
        metadata={
            "description": "With `under_ms`: the share of predictions that took at most so many milliseconds, with the "
            "limits between which the true share is; null without predictions."
        },
    )
    summarized = ma.fields.Integer(
        required=True,
        metadata={
            "description": "How many of `total_requests` clients have counted instead of sending them whole. All "
            "figures include them; a range counts the minutes that begin in it."
        },
    )
    dropped = ma.fields.Integer(required=True, metadata={"description": DROPPED})
    completeness = ma.fields.Float(required=True, allow_none=True, metadata={"description": COMPLETENESS})


class SpanSchema(ma.Schema):
    """A range of time; `from` belongs to it, `to` does not."""

    start = Instant(data_key="from", required=True)
    end = Instant(data_key="to", required=True)


class FreshnessSchema(ma.Schema):
    """How the answer was made."""

    materialized_to = Instant(
        required=True,
        allow_none=True,
        metadata={"description": "The aggregates' watermark: later rows were read raw. Null if they are always exact."},
    )
    raw_share = ma.fields.Float(
        required=True, metadata={"description": "Share of the predictions that was read from raw rows."}
    )
    hours_pending_repair = ma.fields.Integer(
        required=True,
        metadata={"description": "Hours with an invalidation, read raw until they are refreshed."},
    )
    replica_lag_s = ma.fields.Float(
        required=True,
        allow_none=True,
        metadata={
            "description": "If a replica answered: at most how many seconds it is behind the primary; "
            "null if the primary answered."
        },
    )
    one_snapshot = ma.fields.Boolean(
        metadata={
            "description": "Left out, unless models are on several nodes of Citus and the question is about several "
            "models. Then it is false: a batch that is being committed may be counted for some of its models, and a "
            "moment later for all. What is counted of one model is always of one moment."
        }
    )


class AnswerSchema(ma.Schema):
    """The common fields of all answers."""

    range = ma.fields.Nested(SpanSchema, required=True, metadata={"description": "The range that was counted."})
    cut_to_request = ma.fields.Boolean(
        required=True,
        metadata={"description": "False if raw rows are gone and `range` had to be widened to whole buckets."},
    )
    percentile_relative_error = ma.fields.Float(
        required=True, metadata={"description": "How far a percentile may be from the true one, as a share of it."}
    )
    freshness = ma.fields.Nested(FreshnessSchema, required=True)


def as_json(body: Any) -> Response:
    """Return a response with this body."""
    return Response(msgspec.json.encode(body), mimetype="application/json")


# Written by hand, not dumped by the schemas above: for a series that would take longer than the database does.
def tallied(tally: Tally, percentiles: Sequence[float], under_ms: Sequence[float] = ()) -> dict[str, Any]:
    """Return a tally as TallySchema describes it."""
    shares = zip(map(label, under_ms), map(_share, tally.shares_under(under_ms)))
    values = zip(map(label, percentiles), map(milliseconds, tally.percentiles(percentiles)))
    return {
        "total_requests": tally.total,
        "successful_requests": tally.successful,
        "failed_requests": tally.failed,
        "success_rate": tally.success_rate,
        "average_duration_ms": milliseconds(tally.average_duration_ms),
        "min_duration_ms": milliseconds(tally.duration_ms_min),
        "max_duration_ms": milliseconds(tally.duration_ms_max),
        "percentiles": dict(values),
        **({"under_ms": dict(shares)} if under_ms else {}),
        "summarized": tally.summarized,
        "dropped": tally.dropped,
        "completeness": tally.completeness,
    }


def counted(question: Question, answer: Answer) -> dict[str, Any]:
    """Return the range and the freshness of an answer as AnswerSchema describes them."""
    freshness = answer.freshness
    return {
        "range": {"from": answer.range.start.isoformat(), "to": answer.range.end.isoformat()},
        "cut_to_request": answer.range == question.range,
        "percentile_relative_error": RELATIVE_ERROR,
        "freshness": {
            "materialized_to": None if freshness.watermark >= ALWAYS else freshness.watermark.isoformat(),
            "raw_share": freshness.raw_share,
            "hours_pending_repair": freshness.hours_pending_repair,
            "replica_lag_s": None if freshness.replica_lag_s is None else round(freshness.replica_lag_s, 3),
            **({} if freshness.is_one_snapshot else {"one_snapshot": False}),
        },
    }


def _share(share: Share | None) -> dict[str, float] | None:
    return None if share is None else {"share": share.value, "low": share.low, "high": share.high}


@lru_cache(maxsize=256)
def label(number: float) -> str:
    """Return a percentile or a duration as a client would write it: 50, 99.9."""
    return str(shortest_number(number))


def milliseconds(value: float | None) -> int | float | None:
    """A duration as its sender would write it."""
    return None if value is None else shortest_number(value)
