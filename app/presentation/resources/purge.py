"""Remove many predictions for good."""

from __future__ import annotations

import time
from datetime import datetime, timezone
from typing import Any

import marshmallow as ma

from app.application.purge import Purged, PurgeFilters
from app.domain.instants import parse_bound
from app.domain.predictions import MAX_MODEL_NAME_LENGTH
from app.presentation.api import Blueprint
from app.presentation.audit import audit
from app.presentation.schemas.fields import Identifier, Instant, bound, name, version
from app.presentation.services import services

blp = Blueprint("purge", __name__, url_prefix="/api/v1", description="Logged predictions, removed for good")

# The rest is left for the next request, because proxies give up after a minute.
MAX_PURGE_S = 25.0
EXAMPLE = {"deleted": 1200, "complete": True, "aggregates_deleted": False, "aggregates_kept_before": None}


class PurgeQuerySchema(ma.Schema):
    """Which predictions to remove; at least one filter."""

    model_name = name(
        MAX_MODEL_NAME_LENGTH,
        metadata={"description": "Only predictions of this model.", "example": "apartment_price_v1"},
    )
    model_version = version(
        "Only predictions of this version; with `model_name`. Empty: those logged without a version."
    )
    start = bound("Not before this date (UTC) or instant.", data_key="from", example="2025-06-01")
    end = bound("Up to this date (included, UTC) or instant (not included).", data_key="to", example="2025-06-09")
    request_id = Identifier(metadata={"description": "Only the prediction that was logged with this `request_id`."})

    @ma.post_load
    def to_filters(self, data: dict[str, Any], **_: Any) -> PurgeFilters:
        for key, field in (("start", "from"), ("end", "to")):
            if key in data:
                data[key] = parse_bound(field, data[key], timezone.utc, is_end=key == "end")
        return PurgeFilters(**data)


class PurgedSchema(ma.Schema):
    """How much was removed."""

    deleted = ma.fields.Integer(required=True, metadata={"description": "Predictions that are removed now."})
    complete = ma.fields.Boolean(
        required=True, metadata={"description": "false: there is more; send the same request again."}
    )
    aggregates_deleted = ma.fields.Boolean(
        required=True,
        metadata={"description": "Whether statistics from before the retention edge were removed with a whole model."},
    )
    aggregates_kept_before = Instant(
        required=True,
        allow_none=True,
        metadata={
            "description": "The retention edge, if the range reaches behind it: single predictions from before are "
            "gone already, and the statistics of that time stay as they are."
        },
    )


@blp.route("/predictions", methods=["DELETE"])
@blp.arguments(PurgeQuerySchema(), location="query")
@blp.response(200, PurgedSchema, example=EXAMPLE)
@blp.errors(422, 503)
def purge_predictions(filters: PurgeFilters) -> dict[str, Any]:
    """Delete the logged predictions of a model, of a range of time, or with a `request_id`.

    Predictions that pass all filters are deleted for good, from the statistics as well. `model_name` alone, or with
    `model_version`, deletes the model itself, also from the statistics before the retention edge; it then vanishes from
    `/models`. The work is done in pieces, and statistics are exact after each. After 25 seconds the answer has
    `complete: false`: send the same request again to go on. Reports of dropped predictions are not deleted.
    """
    now, until, purged = datetime.now(timezone.utc), time.monotonic() + MAX_PURGE_S, Purged()
    try:
        for step in services().purge.run(filters, now):
            purged = step
            if time.monotonic() > until:
                break
    finally:
        audit("predictions.purged", **audited(filters, purged))
    return {
        "deleted": purged.deleted,
        "complete": purged.is_complete,
        "aggregates_deleted": purged.buckets_deleted > 0,
        "aggregates_kept_before": purged.raw_from if purged.keeps_aggregates_of(filters, now) else None,
    }


def audited(filters: PurgeFilters, purged: Purged) -> dict[str, Any]:
    """Return the filters and numbers of a purge for its audit line, without anything of a prediction."""
    chosen = {f"filter_{name}": str(value) for name, value in vars(filters).items() if value is not None}
    numbers = {"deleted": purged.deleted, "buckets_deleted": purged.buckets_deleted, "complete": purged.is_complete}
    return chosen | numbers
