"""Statistics of every model over any range, page by page."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any

import marshmallow as ma
from flask import Response
from marshmallow.validate import OneOf, Range

from app.application.model_statistics import ModelPage
from app.application.statistics import GroupKey, Question
from app.domain.predictions import MAX_MODEL_NAME_LENGTH
from app.domain.statistics import Series, Tally
from app.domain.timeline import BUCKETS
from app.presentation.api import Blueprint
from app.presentation.pagination import decode_cursor, encode_cursor, link_to_next_page
from app.presentation.points import AUTO, divided
from app.presentation.schemas.fields import Instant, QueryInteger, Text, name
from app.presentation.schemas.ranges import RangeSchema, day_before
from app.presentation.schemas.statistics import (
    ANSWER_EXAMPLE,
    TALLY_EXAMPLE,
    AnswerSchema,
    TallySchema,
    as_json,
    counted,
    tallied,
)
from app.presentation.services import services

blp = Blueprint("model_statistics", __name__, url_prefix="/api/v1", description="How every model does")

NOTHING = Tally()
MAX_LIMIT = 1000
EXAMPLE = {
    "bucket": "1d",
    "edges": ["2025-06-01T00:00:00+00:00", "2025-06-02T00:00:00+00:00", "2025-06-03T00:00:00+00:00"],
    "models": [
        {"model_name": "apartment_price_v1", **TALLY_EXAMPLE, "series": {"calls": [240, 260], "failed": [11, 9]}}
    ],
    **ANSWER_EXAMPLE,
}


class ModelStatisticsQuerySchema(RangeSchema):
    """The models to list, the range, and how many on a page."""

    search = name(
        MAX_MODEL_NAME_LENGTH,
        metadata={"description": "Only models whose name has this in it, in upper or lower case.", "example": "price"},
    )
    bucket = ma.fields.String(
        validate=OneOf([*BUCKETS, AUTO]),
        metadata={
            "description": "Also count by points this long; `auto` makes about 60, or fewer if too little was kept.",
            "example": "1h",
        },
    )
    limit = QueryInteger(
        load_default=100, validate=Range(1, MAX_LIMIT), metadata={"description": f"How many at most, 1 to {MAX_LIMIT}."}
    )
    cursor = Text(metadata={"description": "The cursor in the Link header of the page before."})

    def beginning(self, end: datetime, data: dict[str, Any]) -> datetime:
        return day_before(end) if "bucket" in data else super().beginning(end, data)


class CountsSchema(ma.Schema):
    """Counts by point of time, in the order of the points."""

    calls = ma.fields.List(ma.fields.Integer(), required=True)
    failed = ma.fields.List(ma.fields.Integer(), required=True)


class ModelTallySchema(TallySchema):
    """The statistics of one model, all versions together."""

    model_name = ma.fields.String(required=True)
    series = ma.fields.Nested(CountsSchema, metadata={"description": "With `bucket`: the counts by point of time."})


class ModelStatisticsSchema(AnswerSchema):
    """The statistics of many models over one range."""

    models = ma.fields.List(ma.fields.Nested(ModelTallySchema), required=True)
    bucket = ma.fields.String(metadata={"description": "With `bucket`: how long a point is."})
    edges = ma.fields.List(
        Instant(),
        metadata={"description": "With `bucket`: the times at which the points begin, and the end of the last one."},
    )


@blp.route("/stats/models")
@blp.arguments(ModelStatisticsQuerySchema(), location="query")
@blp.response(
    200,
    ModelStatisticsSchema,
    example=EXAMPLE,
    description="Models in the order of their names",
    headers={"Link": {"description": 'The next page, as `<…>; rel="next"`.', "schema": {"type": "string"}}},
)
@blp.errors(422, 503)
def list_model_statistics(query: dict[str, Any]) -> Response:
    """Give the statistics of every model over any range, page by page.

    Every model that was ever logged is listed, with zeros and nulls if it has no predictions in the range. The figures
    of a model are those of `GET /api/v1/stats` with its name. With `bucket` and without `from` the range is the day
    before its end. A page may have fewer models than `limit`: models times points are at most 25,000. While there is
    more, the header `Link` with `rel="next"` has the address of the next page, relative to this one; give `to` if all
    pages are to be about the same range.
    """
    percentiles, bucket, series = query["percentiles"], query.get("bucket"), None
    question = Question(query["selection"], query["range"], ("model_name",), latency=bool(percentiles))
    cursor = query.get("cursor")
    after = decode_cursor(cursor, str)[0] if cursor else None

    def ask(question: Question) -> ModelPage:
        return services().readers.ask(
            lambda reader: reader.model_statistics.page(question, query.get("search"), after, query["limit"])
        )

    if bucket:
        bucket, series, page = divided(question, bucket, query["zone"], ask, lambda page: page.answer.range)
    else:
        page = ask(question)
    body = {"bucket": bucket, "edges": [edge.isoformat() for edge in series.edges]} if series else {}
    body["models"] = _written(page, series, percentiles)
    response = as_json(body | counted(question, page.answer))
    if page.has_more:
        response.headers["Link"] = link_to_next_page(encode_cursor(page.model_names[-1]))
    return response


def _written(page: ModelPage, series: Series | None, percentiles: Sequence[float]) -> list[dict[str, Any]]:
    if series is None:
        tallies = page.answer.tallies
        return [
            {"model_name": name} | tallied(tallies.get(GroupKey(0, name), NOTHING), percentiles)
            for name in page.model_names
        ]
    points = [point for point, _ in enumerate(pairwise(series.edges))]
    return [_with_series(page, name, points, percentiles) for name in page.model_names]


def _with_series(page: ModelPage, name: str, points: Sequence[int], percentiles: Sequence[float]) -> dict[str, Any]:
    tallies = [page.answer.tallies.get(GroupKey(point, name), NOTHING) for point in points]
    total = Tally()
    for tally in tallies:
        if tally:
            total.merge(tally)
    counts = {"calls": [tally.total for tally in tallies], "failed": [tally.failed for tally in tallies]}
    return {"model_name": name} | tallied(total, percentiles) | {"series": counts}
