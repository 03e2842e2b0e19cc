"""The header in which a client reports the predictions that it dropped."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import marshmallow as ma
from marshmallow.validate import OneOf, Range
from werkzeug.datastructures import Headers

from app.domain.dropped import MAX_AGE, MAX_COUNT, MAX_REPORTS, REASONS, DroppedReport, minute_problem, sum_problem
from app.domain.instants import MINUTE, floor
from app.domain.predictions import MAX_MODEL_NAME_LENGTH
from app.presentation.errors import problem
from app.presentation.middleware.arguments import loads
from app.presentation.schemas.fields import Identifier, Instant, name

HEADER = "Predlog-Dropped"
# The name of the header in clients before 0.2.
OLD_HEADER = "Predlog-Discarded"
LEFT_OUT_HEADER = "Predlog-Dropped-Left-Out"


class DroppedReportSchema(ma.Schema):
    """Predictions of one model in one minute that a client dropped for one reason."""

    id = Identifier(required=True, metadata={"description": "Made by the client: a report sent again counts once."})
    model_name = name(MAX_MODEL_NAME_LENGTH, required=True)
    timestamp = Instant(
        required=True, metadata={"description": f"The minute, of the last {MAX_AGE.days} days; seconds are left out."}
    )
    reason = ma.fields.String(required=True, validate=OneOf(REASONS))
    count = ma.fields.Integer(
        required=True,
        strict=True,
        validate=Range(1, MAX_COUNT),
        metadata={"description": f"How many; those of one request may add up to {MAX_COUNT} at most."},
    )

    @ma.pre_load(pass_collection=True)
    def check_number(self, data: Any, **_: Any) -> Any:
        if isinstance(data, list) and len(data) > MAX_REPORTS:
            raise ma.ValidationError(f"At most {MAX_REPORTS} reports.")
        return data

    @ma.validates_schema(pass_collection=True)
    def check_sum(self, data: list[dict[str, Any]], **_: Any) -> None:
        if problem := sum_problem(report["count"] for report in data):
            raise ma.ValidationError(problem)

    @ma.validates("timestamp")
    def check_minute(self, value: datetime, data_key: str) -> None:
        if problem := minute_problem(value, datetime.now(timezone.utc)):
            raise ma.ValidationError(problem)

    @ma.post_load
    def to_report(self, data: dict[str, Any], **_: Any) -> DroppedReport:
        return DroppedReport(**{**data, "timestamp": floor(data["timestamp"], MINUTE)})


_SCHEMA = DroppedReportSchema(many=True)


def read_dropped(headers: Headers) -> list[DroppedReport]:
    """Return the reports in the header; none without a header. Answers 422 if the header is not as documented.

    The HTTP server hands on a header that is not ASCII as an empty one.
    """
    header = headers.get(HEADER, headers.get(OLD_HEADER))
    if header is None:
        return []
    if not header or not header.isascii():
        problem(422, errors={"headers": {HEADER: [r"Must be JSON in ASCII: write other characters as \uXXXX."]}})
    try:
        return list(_SCHEMA.load(loads(header)))
    except ma.ValidationError as error:
        problem(422, errors={"headers": {HEADER: error.messages}})
    except (ValueError, RecursionError):
        problem(422, errors={"headers": {HEADER: ["Invalid JSON."]}})
