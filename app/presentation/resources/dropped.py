"""Report what was dropped without a batch, and remove reports that cannot be true."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import marshmallow as ma
from marshmallow.validate import Length

from app.application.dropped import Removed, facts
from app.domain.dropped import MAX_COUNT, DroppedReport
from app.domain.instants import parse_bound
from app.domain.predictions import MAX_MODEL_NAME_LENGTH
from app.presentation.api import Blueprint
from app.presentation.audit import audit
from app.presentation.instruments import meters
from app.presentation.middleware.authentication import check_model
from app.presentation.middleware.rate_limit import caller
from app.presentation.schemas.dropped_header import DroppedReportSchema
from app.presentation.schemas.fields import bound, name
from app.presentation.schemas.ranges import MAX_MODELS
from app.presentation.services import services

blp = Blueprint("dropped", __name__, url_prefix="/api/v1", description="Predictions that were never logged")

# Of today, so that it may be sent as it is.
REPORT = {
    "id": "0197a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b",
    "model_name": "apartment_price_v1",
    "timestamp": f"{datetime.now(timezone.utc):%Y-%m-%d}T00:00:00Z",
    "reason": "queue_full",
    "count": 7,
}
COUNTED = {"counted": 1, "duplicates": 0, "left_out": 0}


class CountedSchema(ma.Schema):
    """The result of reports."""

    counted = ma.fields.Integer(required=True, metadata={"description": "Reports that are counted now."})
    duplicates = ma.fields.Integer(required=True, metadata={"description": "Reports that had been counted before."})
    left_out = ma.fields.Integer(
        required=True,
        metadata={"description": f"Dropped predictions of new reports that are beyond {MAX_COUNT} for a minute."},
    )


class RemovedSchema(ma.Schema):
    """How much was removed."""

    reports = ma.fields.Integer(required=True, metadata={"description": "Single reports that were removed."})
    dropped = ma.fields.Integer(
        required=True, metadata={"description": "Dropped predictions that the statistics count no more."}
    )


class RemovalQuerySchema(ma.Schema):
    """Which reports to remove."""

    model_name = ma.fields.List(
        name(MAX_MODEL_NAME_LENGTH),
        load_default=[],
        validate=Length(max=MAX_MODELS, error=f"At most {MAX_MODELS} models."),
        metadata={"description": "Only reports of this model; repeat it for several.", "example": ["retired_model"]},
    )
    start = bound("Not before this date (UTC) or instant.", data_key="from", example="2025-06-01")
    end = bound("Up to this date (included, UTC) or instant (not included).", data_key="to", example="2025-06-09")

    @ma.post_load
    def to_bounds(self, data: dict[str, Any], **_: Any) -> dict[str, Any]:
        start, end = data.get("start"), data.get("end")
        return {
            "model_names": sorted(set(data["model_name"])),
            "start": parse_bound("from", start, timezone.utc, is_end=False) if start is not None else None,
            "end": parse_bound("to", end, timezone.utc, is_end=True) if end is not None else None,
        }


@blp.route("/dropped", methods=["POST"])
@blp.arguments(DroppedReportSchema(many=True), example=[REPORT])
@blp.response(200, CountedSchema, example=COUNTED, description="The reports are counted")
@blp.errors(400, 408, 413, 415, 422, 503)
def report_dropped(reports: list[DroppedReport]) -> dict[str, int]:
    """Report predictions that a client dropped instead of logging them.

    The body is what the header `Predlog-Dropped` of a batch holds: a JSON array of reports. All of them are counted,
    or none. A report that is sent again counts once. A minute counts at most 60,000,000 dropped predictions of one
    model and one reason, and leaves out the rest. A model that was never logged or reported counts towards
    `MAX_NEW_MODELS_PER_DAY`.
    """
    for report in reports:
        check_model(report.model_name)
    services().new_models.check_reports(caller(), reports)
    counted = services().dropped.report(reports)
    meters().dropped(reports)
    return {"counted": counted.reports, "duplicates": len(reports) - counted.reports, "left_out": counted.left_out}


@blp.route("/dropped", methods=["DELETE"])
@blp.arguments(RemovalQuerySchema(), location="query")
@blp.response(200, RemovedSchema, example={"reports": 2, "dropped": 14})
@blp.errors(422, 503)
def remove_dropped(query: dict[str, Any]) -> Removed:
    """Remove reports of dropped predictions, from the statistics as well.

    Give a model, a range of time, or both. All minutes that begin in the range belong to it; if retention has kept only
    hours or days, the whole ones within the range belong to it.
    """
    removed = services().dropped.remove(**query)
    audit("dropped.removed", **facts(**query), **vars(removed))
    return removed
