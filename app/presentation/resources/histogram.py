"""The distribution of durations: over a range, and by point of time for a heat map."""

from __future__ import annotations

from datetime import datetime
from itertools import pairwise
from typing import Any

import marshmallow as ma
from flask import Response
from marshmallow.validate import OneOf, Range

from app.application.statistics import GroupKey, Question
from app.domain.histogram import MIN_COLUMNS, Columns
from app.domain.statistics import Tally
from app.domain.timeline import BUCKETS
from app.presentation.api import Blueprint
from app.presentation.points import AUTO, statistics_by_points
from app.presentation.schemas.fields import Instant, Milliseconds, QueryInteger
from app.presentation.schemas.ranges import RangeSchema, day_before
from app.presentation.schemas.statistics import (
    ANSWER_EXAMPLE,
    COMPLETENESS,
    DROPPED,
    AnswerSchema,
    as_json,
    counted,
    milliseconds,
)
from app.presentation.services import services

blp = Blueprint(
    "histogram", __name__, url_prefix="/api/v1", description="How the durations of predictions are distributed"
)

MAX_COLUMNS = 200
DEFAULT_COLUMNS = 50
NOTHING = Tally()
EXAMPLE = {
    "bins": [
        {"from_ms": 81.46281638538684, "to_ms": 244.73679925652837, "count": 371},
        {"from_ms": 244.73679925652837, "to_ms": 735.2569376802775, "count": 129},
    ],
    "total_requests": 500,
    "summarized": 0,
    "dropped": 0,
    "completeness": 1.0,
    "bucket": "1d",
    "timezone": "UTC",
    "points": [
        {
            "from": "2025-06-01T00:00:00+00:00",
            "to": "2025-06-02T00:00:00+00:00",
            "counts": [371, 129],
            "total_requests": 500,
            "summarized": 0,
            "dropped": 0,
            "completeness": 1.0,
        }
    ],
    **ANSWER_EXAMPLE,
}


class HistogramQuerySchema(RangeSchema):
    """The predictions to count, their range, and the number of bins."""

    class Meta:
        exclude = ("percentiles",)

    bins = QueryInteger(
        load_default=DEFAULT_COLUMNS,
        validate=Range(MIN_COLUMNS, MAX_COLUMNS),
        metadata={"description": "How many bins there may be; as many are made as fit.", "example": DEFAULT_COLUMNS},
    )
    bucket = ma.fields.String(
        validate=OneOf([*BUCKETS, AUTO]),
        metadata={
            "description": "Count by points of time, too, each so long; `auto` makes about 60 points, or fewer if too "
            "little has been kept. Not given: no points.",
            "example": "1h",
        },
    )

    def beginning(self, end: datetime, data: dict[str, Any]) -> datetime:
        return day_before(end)


class BinSchema(ma.Schema):
    """The predictions that took more than `from_ms` and at most `to_ms`; both are 0 in the bin of 0 ms."""

    from_ms = Milliseconds(required=True)
    to_ms = Milliseconds(required=True)
    count = ma.fields.Integer(required=True)


class CountedSchema(ma.Schema):
    """How many predictions were logged, and how many were dropped."""

    total_requests = ma.fields.Integer(required=True, metadata={"description": "The sum of the counts."})
    summarized = ma.fields.Integer(
        required=True, metadata={"description": "How many of `total_requests` clients have counted only."}
    )
    dropped = ma.fields.Integer(required=True, metadata={"description": DROPPED})
    completeness = ma.fields.Float(required=True, allow_none=True, metadata={"description": COMPLETENESS})


class HistogramPointSchema(CountedSchema):
    """One point of time, which begins at `from` (included) and ends at `to` (not included)."""

    start = Instant(data_key="from", required=True)
    end = Instant(data_key="to", required=True)
    counts = ma.fields.List(
        ma.fields.Integer(), required=True, metadata={"description": "Predictions in each of `bins`, in their order."}
    )


class HistogramSchema(CountedSchema, AnswerSchema):
    """A histogram of durations, and with `bucket` the same by point of time."""

    bins = ma.fields.List(ma.fields.Nested(BinSchema), required=True)
    bucket = ma.fields.String(metadata={"description": "With `bucket`: how long a point is."})
    timezone = ma.fields.String(metadata={"description": "With `bucket`: the clock that the points follow."})
    points = ma.fields.List(ma.fields.Nested(HistogramPointSchema), metadata={"description": "With `bucket`."})


@blp.route("/stats/histogram")
@blp.arguments(HistogramQuerySchema(), location="query")
@blp.response(200, HistogramSchema, example=EXAMPLE)
@blp.errors(422, 503)
def histogram(query: dict[str, Any]) -> Response:
    """Count predictions by their duration, exactly: over a range, and with `bucket` by points of time for a heat map.

    The bins lie end to end from the fastest prediction to the slowest, and their bounds grow geometrically: `to_ms` is
    the same multiple of `from_ms` in all. The counts are exact and add up to `total_requests`. Every point has the same
    bins. Points begin at full buckets of the clock of `timezone`; the first and the last are cut to the range. Without
    `from` the range is the day before its end.
    """
    question, bucket, series = Question(query["selection"], query["range"]), query.get("bucket"), None
    if bucket:
        bucket, series, answer = statistics_by_points(question, bucket, query["zone"])
    else:
        answer = services().readers.ask(lambda reader: reader.statistics.ask(question))
    total = answer.total
    columns = Columns.of(total.sketch, query["bins"])
    counts = columns.counts(total.sketch)
    bins = [
        {"from_ms": milliseconds(column.from_ms), "to_ms": milliseconds(column.to_ms), "count": count}
        for column, count in zip(columns.bounds, counts)
    ]
    body = {"bins": bins, **_counted(total)}
    if series:
        tallies = [answer.tallies.get(GroupKey(number), NOTHING) for number in range(len(series.edges) - 1)]
        body |= {"bucket": bucket, "timezone": str(query["zone"])}
        edges = [edge.isoformat() for edge in series.edges]
        body["points"] = [
            {"from": start, "to": end, "counts": columns.counts(tally.sketch), **_counted(tally)}
            for (start, end), tally in zip(pairwise(edges), tallies)
        ]
    return as_json(body | counted(question, answer))


def _counted(tally: Tally) -> dict[str, Any]:
    return {
        "total_requests": tally.total,
        "summarized": tally.summarized,
        "dropped": tally.dropped,
        "completeness": tally.completeness,
    }
