"""Statistics over any range: in total, by group, over time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any

import marshmallow as ma
from flask import Response
from marshmallow.validate import Length, OneOf
from webargs.fields import DelimitedList

from app.application.statistics import MAX_GROUPS, GroupKey, Question
from app.domain.predictions import MAX_DURATION_MS
from app.domain.statistics import GROUP_KEYS, Tally
from app.domain.timeline import BUCKETS
from app.presentation.api import Blueprint
from app.presentation.content_types import CSV, format_field, negotiated
from app.presentation.points import AUTO, statistics_by_points
from app.presentation.schemas.fields import Instant, QueryMilliseconds
from app.presentation.schemas.ranges import MAX_PERCENTILES, RangeSchema, day_before
from app.presentation.schemas.statistics import (
    ANSWER_EXAMPLE,
    TALLY_EXAMPLE,
    AnswerSchema,
    TallySchema,
    as_json,
    counted,
    tallied,
)
from app.presentation.schemas.statistics_csv import FORMATS, as_csv, columns, csv_content
from app.presentation.services import services

blp = Blueprint(
    "statistics", __name__, url_prefix="/api/v1", description="How many predictions, how many failed, how fast"
)

NOTHING = Tally()

STATS_EXAMPLE = TALLY_EXAMPLE | ANSWER_EXAMPLE
POINT_EXAMPLE = {"from": "2025-06-01T00:00:00+00:00", "to": "2025-06-02T00:00:00+00:00", **TALLY_EXAMPLE}
SERIES_EXAMPLE = {
    "bucket": "1d",
    "timezone": "UTC",
    "points": [POINT_EXAMPLE],
    **ANSWER_EXAMPLE,
}


class MeasuresSchema(RangeSchema):
    """The predictions to count, their range, and the measures of their durations."""

    under_ms = DelimitedList(
        QueryMilliseconds(metadata={"type": "number", "minimum": 0, "maximum": MAX_DURATION_MS}),
        load_default=[],
        validate=Length(max=MAX_PERCENTILES, error=f"At most {MAX_PERCENTILES} durations."),
        metadata={
            "description": "Say which share of the predictions took at most so many milliseconds.",
            "default": [],
            "example": [200, 500],
        },
    )


class StatsQuerySchema(MeasuresSchema):
    """The predictions to count, and their groups."""

    format = format_field(FORMATS)
    group_by = DelimitedList(
        ma.fields.String(validate=OneOf(GROUP_KEYS)),
        load_default=[],
        metadata={
            "description": f"Count by `model_name`, by `model_version`, or by both; at most {MAX_GROUPS:,} groups.",
            "default": [],
            "example": ["model_name"],
        },
    )


class SeriesQuerySchema(MeasuresSchema):
    """The predictions to count, and the points of time."""

    format = format_field(FORMATS)
    bucket = ma.fields.String(
        load_default=AUTO,
        validate=OneOf([*BUCKETS, AUTO]),
        metadata={
            "description": "How long a point is; `auto` makes about 60 points, or fewer if too little has been kept.",
            "example": "1h",
        },
    )

    def beginning(self, end: datetime, data: dict[str, Any]) -> datetime:
        return day_before(end)


class GroupSchema(TallySchema):
    """The same for one group; `model_version` is null if the predictions were logged without one."""

    model_name = ma.fields.String()
    model_version = ma.fields.String(allow_none=True)


class PointSchema(TallySchema):
    """The same for one point of time, which begins at `from` (included) and ends at `to` (not included)."""

    start = Instant(data_key="from", required=True)
    end = Instant(data_key="to", required=True)


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
@blp.doc(responses={200: {"content": csv_content(TALLY_EXAMPLE)}})
@blp.response(200, StatsSchema, example=STATS_EXAMPLE)
@blp.errors(406, 422, 503)
def stats(query: dict[str, Any]) -> Response:
    """Count predictions and failures and measure durations over any range, exactly.

    Dates are whole days of `timezone`, the last one included; instants bound a half-open range. The counts, the
    average and the extremes are those of a full scan of the log at the moment of the answer; each percentile is within
    `percentile_relative_error` of the true one, and each true share of `under_ms` within its limits. A model that
    was never logged has zeros and nulls. CSV has a line for each group, or one for all.

    Of which versions the dropped predictions were is not known. With `model_version` they are those of all versions of
    the models, so the true `completeness` is at least the one shown; in groups of versions it is null if any were
    dropped.
    """
    wanted = negotiated(FORMATS, query)
    group_by = tuple(key for key in GROUP_KEYS if key in query["group_by"])
    measures = query["percentiles"], query["under_ms"]
    question = Question(
        query["selection"],
        query["range"],
        group_by,
        latency=any(measures),
        max_groups=MAX_GROUPS if group_by else None,
    )
    answer = services().readers.ask(lambda reader: reader.statistics.ask(question))
    body = tallied(answer.total, *measures) | counted(question, answer)
    if group_by:
        ordered = sorted(item for item in answer.tallies.items() if getattr(item[0], group_by[-1]) is not None)
        # Dropped predictions are known by model only: nobody knows how complete the figures of a version are.
        unknown = {"completeness": None} if "model_version" in group_by and answer.total.dropped else {}
        body["groups"] = [_group(key, group_by) | tallied(tally, *measures) | unknown for key, tally in ordered]
    if wanted == CSV:
        return as_csv(body.get("groups", [body]), [*group_by, *columns(*measures)])
    return as_json(body)


@blp.route("/stats/timeseries")
@blp.arguments(SeriesQuerySchema(), location="query")
@blp.doc(responses={200: {"content": csv_content(POINT_EXAMPLE)}})
@blp.response(200, SeriesSchema, example=SERIES_EXAMPLE)
@blp.errors(406, 422, 503)
def timeseries(query: dict[str, Any]) -> Response:
    """Give the same statistics by points of time; points without predictions have zeros.

    Points begin at full buckets of the clock of `timezone`; the first and the last are cut to the range.
    Without `from` the range is the day before its end. CSV has a line for each point.
    """
    wanted = negotiated(FORMATS, query)
    measures = query["percentiles"], query["under_ms"]
    question = Question(query["selection"], query["range"], latency=any(measures))
    bucket, series, answer = statistics_by_points(question, query["bucket"], query["zone"])
    edges = [edge.isoformat() for edge in series.edges]
    points = [
        {"from": start, "to": end} | tallied(answer.tallies.get(GroupKey(i), NOTHING), *measures)
        for i, (start, end) in enumerate(pairwise(edges))
    ]
    if wanted == CSV:
        return as_csv(points, ["from", "to", *columns(*measures)])
    return as_json({"bucket": bucket, "timezone": str(query["zone"]), "points": points} | counted(question, answer))


def _group(key: GroupKey, group_by: Sequence[str]) -> dict[str, Any]:
    return {name: getattr(key, name) or None for name in group_by}
