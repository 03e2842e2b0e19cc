"""A summary as JSON: predictions that a client has counted instead of sending each of them whole."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import marshmallow as ma

from app.domain.predictions import MAX_DURATION_MS, MAX_MODEL_NAME_LENGTH, MAX_MODEL_VERSION_LENGTH, NO_VERSION
from app.domain.summaries import MAX_AGE, MAX_BINS, MAX_COUNT, Summary, problems
from app.presentation.schemas.fields import Identifier, Instant, Milliseconds, name

MAX_FIELDS = 20
# For the OpenAPI document, which cannot read them from the fields.
PAIR = {"type": "array", "minItems": 2, "maxItems": 2, "items": {"type": "integer"}}
BOUNDS = {"minimum": 0, "maximum": MAX_DURATION_MS}


class SummarySchema(ma.Schema):
    """Predictions of one version of a model in one minute, counted by the client."""

    summary_id = Identifier(
        required=True, metadata={"description": "Made by the client: a summary that is sent again counts once."}
    )
    model_name = name(MAX_MODEL_NAME_LENGTH, required=True)
    model_version = name(MAX_MODEL_VERSION_LENGTH, allow_none=True)
    timestamp = Instant(
        required=True, metadata={"description": f"The beginning of the minute, of the last {MAX_AGE.days} days."}
    )
    count = ma.fields.Integer(
        required=True,
        strict=True,
        metadata={"description": "How many predictions.", "minimum": 1, "maximum": MAX_COUNT},
    )
    successful_count = ma.fields.Integer(
        required=True, strict=True, metadata={"description": "How many of them succeeded.", "minimum": 0}
    )
    duration_ms_sum = Milliseconds(
        required=True, metadata={"description": "The sum of their durations, each rounded to nanoseconds.", **BOUNDS}
    )
    duration_ms_min = Milliseconds(required=True, metadata={"description": "The shortest duration.", **BOUNDS})
    duration_ms_max = Milliseconds(required=True, metadata={"description": "The longest duration.", **BOUNDS})
    bins = ma.fields.List(
        ma.fields.Tuple((ma.fields.Integer(strict=True), ma.fields.Integer(strict=True)), metadata=PAIR),
        required=True,
        metadata={
            "description": "Pairs of a bin and its number of predictions, in ascending order. A duration of x ms is in "
            f"bin ceil(ln(x) / 0.020000666706669435), 0 ms is in bin -100000. At most {MAX_BINS} bins.",
            "minItems": 1,
            "maxItems": MAX_BINS,
        },
    )

    @ma.pre_load
    def check_size(self, data: Any, **_: Any) -> Any:
        if isinstance(data, dict) and len(data) > MAX_FIELDS:
            raise ma.ValidationError(f"Must have at most {MAX_FIELDS} fields.")
        if isinstance(data, dict) and isinstance(data.get("bins"), list) and len(data["bins"]) > MAX_BINS:
            raise ma.ValidationError(f"Must have from 1 to {MAX_BINS} bins.", "bins")
        return data

    @ma.post_load
    def to_summary(self, data: dict[str, Any], **_: Any) -> Summary:
        summary = Summary(
            id=data["summary_id"],
            model_name=data["model_name"],
            model_version=data.get("model_version") or NO_VERSION,
            timestamp=data["timestamp"],
            count=data["count"],
            successful=data["successful_count"],
            **{field: data[field] for field in ("duration_ms_sum", "duration_ms_min", "duration_ms_max", "bins")},
        )
        if found := problems(summary, datetime.now(timezone.utc)):
            raise ma.ValidationError({field: [problem] for field, problem in found.items()})
        return summary
