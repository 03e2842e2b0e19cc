"""Failed predictions, grouped by the common part of their errors."""

from __future__ import annotations

from typing import Any

import marshmallow as ma
from flask import Response
from marshmallow.validate import Range

from app.application.error_groups import Cursor, ErrorGroup
from app.presentation.api import Blueprint
from app.presentation.pagination import decode_cursor, encode_cursor, link_to_next_page
from app.presentation.schemas.fields import Instant, QueryInteger, Text
from app.presentation.schemas.ranges import RangeSchema
from app.presentation.schemas.statistics import as_json
from app.presentation.services import services

blp = Blueprint(
    "error_groups", __name__, url_prefix="/api/v1", description="Errors of predictions, and since when they occur"
)

EXAMPLE = {
    "model_name": "apartment_price_v1",
    "fingerprint": "5d41402abc4b2a76b9719d911017c592",
    "pattern": "ValueError: # rooms are too many",
    "count": 20,
    "first_seen": "2025-06-01T09:13:20.113000+00:00",
    "first_version": "1.5",
    "last_seen": "2025-06-09T11:58:00+00:00",
    "last_id": 701180,
    "versions": ["1.5", "1.6"],
}


class ErrorGroupQuerySchema(RangeSchema):
    """The failed predictions to group, and how many groups on a page."""

    class Meta:
        exclude = ("percentiles",)

    limit = QueryInteger(
        load_default=20, validate=Range(1, 200), metadata={"description": "How many groups at most, 1 to 200."}
    )
    cursor = Text(metadata={"description": "The cursor in the Link header of the page before."})


class ErrorGroupSchema(ma.Schema):
    """Failed predictions of one model whose errors have the same pattern."""

    model_name = ma.fields.String(required=True)
    fingerprint = ma.fields.String(required=True, metadata={"description": "The MD5 of the pattern."})
    pattern = ma.fields.String(
        required=True,
        allow_none=True,
        metadata={
            "description": "The error with # for each number and identifier, cut after 500 characters; "
            "null for predictions that were logged without an error."
        },
    )
    count = ma.fields.Integer(required=True, metadata={"description": "How many predictions of the range."})
    first_seen = Instant(
        required=True,
        metadata={"description": "When it was first seen, in the range or before, if the row is kept."},
    )
    first_version = ma.fields.String(
        required=True, allow_none=True, metadata={"description": "The version that it was first seen in."}
    )
    last_seen = Instant(required=True, metadata={"description": "When it was last seen in the range."})
    last_id = ma.fields.Integer(required=True, metadata={"description": "The id of that prediction."})
    versions = ma.fields.List(
        ma.fields.String(allow_none=True), required=True, metadata={"description": "The versions it has in the range."}
    )


@blp.route("/errors")
@blp.arguments(ErrorGroupQuerySchema(), location="query")
@blp.response(
    200,
    ErrorGroupSchema(many=True),
    example=[EXAMPLE],
    description="The most frequent first",
    headers={"Link": {"description": 'The next page, as `<…>; rel="next"`.', "schema": {"type": "string"}}},
)
@blp.errors(422, 503)
def list_error_groups(query: dict[str, Any]) -> Response:
    """Group failed predictions by the common part of their errors.

    Errors that differ in numbers, UUIDs and hexadecimal numbers alone are one group, the same for every version of a
    model. Counts are exact, over the predictions that retention has kept. While there is more, the header `Link` with
    `rel="next"` has the address of the next page, relative to this one; give `to` if all pages are to be about the same
    range. An answer that takes longer than `LIST_TIMEOUT_MS` is 503: give `model_name` then.
    """
    limit, cursor = query["limit"], query.get("cursor")
    after = Cursor(*decode_cursor(cursor, int, str, str)) if cursor else None
    groups = services().readers.ask(
        lambda reader: reader.error_groups.page(query["selection"], query["range"], after, limit + 1)
    )
    response = as_json([_written(group) for group in groups[:limit]])
    if len(groups) > limit:
        response.headers["Link"] = link_to_next_page(encode_cursor(*groups[limit - 1].cursor))
    return response


def _written(group: ErrorGroup) -> dict[str, Any]:
    return vars(group) | {
        "pattern": group.pattern or None,
        "first_seen": group.first_seen.isoformat(),
        "first_version": group.first_version or None,
        "last_seen": group.last_seen.isoformat(),
        "versions": [version or None for version in group.versions],
    }
