"""Two versions, or two ranges of time, side by side."""

from __future__ import annotations

from dataclasses import replace
from datetime import tzinfo
from typing import Any

import marshmallow as ma
from flask import Response
from marshmallow.validate import Range

from app.application.statistics import Question
from app.domain.comparison import DEFAULT_CONFIDENCE
from app.domain.errors import InvalidInput
from app.domain.instants import TimeRange, parse_bound
from app.presentation.api import Blueprint
from app.presentation.schemas.comparison import EXAMPLE, ComparisonSchema, written
from app.presentation.schemas.fields import QueryNumber, bound, version
from app.presentation.schemas.ranges import RangeSchema, check_order
from app.presentation.schemas.statistics import as_json
from app.presentation.services import services

blp = Blueprint("comparison", __name__, url_prefix="/api/v1", description="Two versions or two ranges side by side")

VERSIONS = ("version_a", "version_b")
BOUNDS = ("from_a", "to_a", "from_b", "to_b")
COMMON_BOUNDS = {"from_date": "from_date", "start": "from", "to_date": "to_date", "end": "to"}


class CompareQuerySchema(RangeSchema):
    """Two versions over one range, or two ranges, or two versions each over a range of its own."""

    version_a = version("The version to compare with; empty: predictions without one.", example="1.4")
    version_b = version("The version to compare; empty: predictions without one.", example="1.5")
    from_a = bound("First day or instant of a.")
    to_a = bound("Last day of a (included), or an instant (not included).")
    from_b = bound("First day or instant of b.")
    to_b = bound("Last day of b (included), or an instant (not included).")
    confidence = QueryNumber(
        load_default=DEFAULT_CONFIDENCE,
        validate=Range(0.5, 0.9999),
        metadata={"description": "How sure the intervals are, 0.5 to 0.9999.", "example": DEFAULT_CONFIDENCE},
    )

    @ma.post_load
    def to_question(self, data: dict[str, Any], **_: Any) -> dict[str, Any]:
        sides = {key: data.pop(key) for key in (*VERSIONS, *BOUNDS) if key in data}
        _check(sides, data)
        query = super().to_question(data)
        common = Question(query["selection"], query["range"], latency=bool(query["percentiles"]))
        return {
            "a": _side(common, sides, "a", query["zone"]),
            "b": _side(common, sides, "b", query["zone"]),
            "percentiles": query["percentiles"],
            "confidence": query["confidence"],
        }


def _check(sides: dict[str, str], others: dict[str, Any]) -> None:
    """Refuse a query that names neither two versions nor two ranges."""
    if not sides:
        raise InvalidInput("version_a", "Missing: give `version_a` and `version_b`, or a range each for a and b.")
    for names in (VERSIONS, BOUNDS):
        missing = [name for name in names if name not in sides]
        if missing and len(missing) < len(names):
            raise InvalidInput(missing[0], f"Missing: {', '.join(f'`{name}`' for name in names)} belong together.")
    if VERSIONS[0] in sides and "model_version" in others:
        raise InvalidInput("model_version", "Cannot stand beside `version_a` and `version_b`.")
    for key, sent in COMMON_BOUNDS.items():
        if BOUNDS[0] in sides and key in others:
            raise InvalidInput(sent, "Cannot stand beside `from_a`, `to_a`, `from_b` and `to_b`.")


def _side(common: Question, sides: dict[str, str], side: str, zone: tzinfo) -> Question:
    version = sides.get(f"version_{side}", common.selection.model_version)
    range = common.range
    if BOUNDS[0] in sides:
        since, until = f"from_{side}", f"to_{side}"
        start, end = sides[since], sides[until]
        range = TimeRange(parse_bound(since, start, zone, is_end=False), parse_bound(until, end, zone, is_end=True))
        check_order((since, start), (until, end), range)
    return replace(common, selection=replace(common.selection, model_version=version), range=range)


@blp.route("/stats/compare")
@blp.arguments(CompareQuerySchema(), location="query")
@blp.response(200, ComparisonSchema, example=EXAMPLE)
@blp.errors(422, 503)
def compare(query: dict[str, Any]) -> Response:
    """Say how b differs from a, and whether that is more than chance.

    Either two versions (`version_a`, `version_b`) over a common range, or two ranges (`from_a`, `to_a`, `from_b`,
    `to_b`) of any or of one version; both together compare two versions each over its own range. A confidence interval
    stands beside the difference of the success rates and beside each ratio of percentiles, and a difference is more
    than chance if its interval leaves out "no difference". Predictions are taken as independent: if failures come in
    bursts, the true intervals are wider. A side without predictions has zeros and nulls, and nothing is compared.
    `dropped` of a version is that of all versions of the models, so its true `completeness` is at least the one shown.
    """
    comparison = services().readers.ask(lambda reader: reader.comparisons.compare(**query))
    return as_json(written(query, comparison))
