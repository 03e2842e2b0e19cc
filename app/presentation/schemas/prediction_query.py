"""Filters and cursors of the list of predictions."""

from __future__ import annotations

from typing import Any

import marshmallow as ma
from marshmallow.validate import Range

from app.application.prediction_list import Cursor, Filters
from app.domain.errors import InvalidInput
from app.domain.instants import TimeRange, parse_bound, parse_instant
from app.domain.predictions import MAX_DURATION_MS, MAX_MODEL_NAME_LENGTH
from app.presentation.middleware.authentication import readable
from app.presentation.pagination import decode_cursor
from app.presentation.schemas.fields import QueryInteger, QueryMilliseconds, Text, bound, name, version, zone
from app.presentation.schemas.ranges import check_order

MAX_ID = 2**63 - 1


class ListCursor(Text):
    """A cursor that a page has given out."""

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        text: str = super()._deserialize(value, *args, **kwargs)
        return list_cursor(text) if text else None


FILTERS = ("model_name", "model_version", "was_successful", "start", "end", "min_duration_ms")


class FiltersSchema(ma.Schema):
    """Which predictions to look at."""

    model_name = name(MAX_MODEL_NAME_LENGTH, metadata={"description": "Only predictions of this model."})
    model_version = version("Only predictions of this version; empty: only those without one.")
    was_successful = ma.fields.Boolean(metadata={"description": "Only predictions that succeeded, or only the others."})
    start = bound("Not before this date or instant.", data_key="from", example="2025-06-01")
    end = bound("Up to this date (included) or instant (not included).", data_key="to", example="2025-06-09")
    timezone = zone("IANA time zone of the dates.")
    min_duration_ms = QueryMilliseconds(
        metadata={
            "description": "Only predictions that took at least this long.",
            "minimum": 0,
            "maximum": MAX_DURATION_MS,
        }
    )

    @ma.post_load
    def to_filters(self, data: dict[str, Any], **_: Any) -> dict[str, Any]:
        zone = data.pop("timezone")
        given = {name: data.pop(name) for name in FILTERS if name in data}
        names = readable([given.pop("model_name")] if "model_name" in given else [])
        texts = dict(given)
        for key, field in (("start", "from"), ("end", "to")):
            if key in given:
                given[key] = parse_bound(field, given[key], zone, is_end=key == "end")
        if "start" in given and "end" in given:
            check_order(("from", texts["start"]), ("to", texts["end"]), TimeRange(given["start"], given["end"]))
        return {"filters": Filters(model_names=names or None, **given), **data}


class PredictionQuerySchema(FiltersSchema):
    """Which predictions to list."""

    limit = QueryInteger(load_default=100, validate=Range(1, 1000), metadata={"description": "How many at most."})
    cursor = ListCursor(
        load_default=None, metadata={"description": "The cursor in the Link header of the page before."}
    )


def list_cursor(text: str) -> Cursor:
    """Return the position in the list that a cursor stands for. Raises InvalidInput."""
    timestamp, prediction_id = decode_cursor(text, str, int)
    try:
        return Cursor(parse_instant(timestamp), prediction_id)
    except ValueError:
        raise InvalidInput("cursor", "Not a cursor that this service has given out.") from None
