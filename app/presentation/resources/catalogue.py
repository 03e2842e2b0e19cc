"""The models and versions that were ever logged."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import marshmallow as ma
from flask import Response
from marshmallow.validate import Length, Range

from app.application.catalogue import Entry
from app.domain.predictions import MAX_MODEL_NAME_LENGTH
from app.domain.statistics import Tally
from app.presentation.api import Blueprint
from app.presentation.middleware.authentication import readable
from app.presentation.pagination import decode_cursor, encode_cursor, link_to_next_page
from app.presentation.schemas.fields import Instant, Milliseconds, QueryInteger, Text, name
from app.presentation.schemas.ranges import MAX_MODELS
from app.presentation.schemas.statistics import as_json, milliseconds
from app.presentation.services import services

blp = Blueprint("catalogue", __name__, url_prefix="/api/v1", description="Which models there are, and how they do")

WINDOW_EXAMPLE = {"total_requests": 3600, "failed_requests": 36, "error_rate": 0.01, "p95_duration_ms": 246.2}
EXAMPLE = {
    "model_name": "apartment_price_v1",
    "model_version": "1.5",
    "first_seen": "2025-06-01T09:13:20.113000+00:00",
    "first_seen_within_s": 0,
    "last_seen": "2025-06-09T12:00:00+00:00",
    "last_seen_within_s": 0,
    "silent": False,
    "usual_gap_s": 1.0,
    "last_hour": WINDOW_EXAMPLE,
    "last_day": WINDOW_EXAMPLE | {"total_requests": 86400, "failed_requests": 864},
    "all_time": WINDOW_EXAMPLE | {"total_requests": 701200, "failed_requests": 7012},
}


class CatalogueQuerySchema(ma.Schema):
    """The models to list, and how many on a page."""

    model_name = ma.fields.List(
        name(MAX_MODEL_NAME_LENGTH),
        load_default=[],
        validate=Length(max=MAX_MODELS, error=f"At most {MAX_MODELS} models."),
        metadata={
            "description": "Only versions of this model; repeat it for several.",
            "example": ["apartment_price_v1"],
        },
    )
    search = name(
        MAX_MODEL_NAME_LENGTH,
        metadata={"description": "Only models whose name has this in it, in upper or lower case.", "example": "price"},
    )
    limit = QueryInteger(
        load_default=100, validate=Range(1, 200), metadata={"description": "How many at most, 1 to 200."}
    )
    cursor = Text(metadata={"description": "The cursor in the Link header of the page before."})


class WindowSchema(ma.Schema):
    """How many predictions there were, how many of them failed, and how long they took."""

    total_requests = ma.fields.Integer(required=True)
    failed_requests = ma.fields.Integer(required=True)
    error_rate = ma.fields.Float(
        required=True, allow_none=True, metadata={"description": "Share that failed, 0 to 1; null without predictions."}
    )
    p95_duration_ms = Milliseconds(
        required=True,
        allow_none=True,
        metadata={"description": "19 of 20 predictions took no longer, known to 1 %; null without any."},
    )


class ModelSchema(ma.Schema):
    """One version of a model."""

    model_name = ma.fields.String(required=True)
    model_version = ma.fields.String(
        required=True, allow_none=True, metadata={"description": "null if the predictions were logged without one."}
    )
    first_seen = Instant(required=True, metadata={"description": "When the first prediction was."})
    first_seen_within_s = ma.fields.Integer(
        required=True,
        metadata={"description": "0 if exact; if raw rows are gone, it was within so many seconds after `first_seen`."},
    )
    last_seen = Instant(required=True, metadata={"description": "When the last prediction was."})
    last_seen_within_s = ma.fields.Integer(required=True, metadata={"description": "The same for `last_seen`."})
    silent = ma.fields.Boolean(
        required=True,
        allow_none=True,
        metadata={
            "description": "No prediction for ten times the usual gap, and for a minute at least; null after a single "
            "one."
        },
    )
    usual_gap_s = ma.fields.Float(
        required=True,
        allow_none=True,
        metadata={
            "description": "Seconds that usually pass between predictions, or between bursts of them, while the model "
            "is in use; null after a single prediction."
        },
    )
    last_hour = ma.fields.Nested(WindowSchema, required=True, metadata={"description": "The last 60 minutes."})
    last_day = ma.fields.Nested(WindowSchema, required=True, metadata={"description": "The last 24 hours."})
    all_time = ma.fields.Nested(WindowSchema, required=True, metadata={"description": "Since the first prediction."})


@blp.route("/models")
@blp.arguments(CatalogueQuerySchema(), location="query")
@blp.response(
    200,
    ModelSchema(many=True),
    example=[EXAMPLE],
    description="Models and versions in the order of their names",
    headers={"Link": {"description": 'The next page, as `<…>; rel="next"`.', "schema": {"type": "string"}}},
)
@blp.errors(422, 503)
def list_models(query: dict[str, Any]) -> Response:
    """List every model and version: since when, how much, how well, and whether it has gone silent.

    A version is silent if there was no prediction for ten times its usual gap. The usual gap is taken from the 50
    latest days, hours and minutes with predictions: three of four gaps are no longer. A burst of predictions, as of a
    nightly job, counts as one. Counts and instants are exact at every moment, `p95_duration_ms` is within 1 % of the
    true one. While there is more, the header `Link` with `rel="next"` has the address of the next page,
    relative to this one.
    """
    limit, cursor, search = query["limit"], query.get("cursor"), query.get("search")
    after = decode_cursor(cursor, str, str) if cursor else None
    now = datetime.now(timezone.utc)
    models = readable(query["model_name"])
    entries, following = services().readers.ask(lambda reader: reader.catalogue.page(models, after, limit, now, search))
    response = as_json([_written(entry) for entry in entries])
    if following:
        response.headers["Link"] = link_to_next_page(encode_cursor(*following))
    return response


def _written(entry: Entry) -> dict[str, Any]:
    first, last, gap = entry.first_seen, entry.last_seen, entry.usual_gap
    return {
        "model_name": entry.model_name,
        "model_version": entry.model_version or None,
        "first_seen": first.range.start.isoformat(),
        "first_seen_within_s": int(first.accuracy.total_seconds()),
        "last_seen": last.range.start.isoformat(),
        "last_seen_within_s": int(last.accuracy.total_seconds()),
        "silent": entry.is_silent,
        "usual_gap_s": None if gap is None else float(f"{gap.total_seconds():.3g}"),
        "last_hour": _window(entry.last_hour),
        "last_day": _window(entry.last_day),
        "all_time": _window(entry.all_time),
    }


def _window(tally: Tally) -> dict[str, Any]:
    return {
        "total_requests": tally.total,
        "failed_requests": tally.failed,
        "error_rate": tally.failed / tally.total if tally.total else None,
        "p95_duration_ms": milliseconds(tally.percentiles([95])[0]),
    }
