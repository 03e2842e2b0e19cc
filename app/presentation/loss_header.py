"""The header in which a client reports what it had to throw away."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import marshmallow as ma
from marshmallow.validate import OneOf, Range

from app.domain.losses import COUNT_AT_MOST, REASONS, Loss
from app.domain.predictions import MODEL_NAME_LENGTH, timestamp_problem
from app.presentation.errors import problem
from app.presentation.fields import Identifier, Instant, name
from app.presentation.parsing import loads

HEADER = "Predlog-Discarded"
LOSSES_AT_MOST = 100


class LossSchema(ma.Schema):
    """Calls of one model in one minute that were not logged, for one reason."""

    id = Identifier(required=True)
    model_name = name(MODEL_NAME_LENGTH, required=True)
    timestamp = Instant(required=True, metadata={"description": "The minute."})
    reason = ma.fields.String(required=True, validate=OneOf(REASONS))
    count = ma.fields.Integer(required=True, strict=True, validate=Range(1, COUNT_AT_MOST))

    @ma.post_load
    def to_loss(self, data: dict[str, Any], **_: Any) -> Loss:
        if error := timestamp_problem(data["timestamp"], datetime.now(timezone.utc)):
            raise ma.ValidationError(error, "timestamp")
        return Loss(**data)


_SCHEMA = LossSchema(many=True)


def read_losses(header: str | None) -> list[Loss]:
    """The losses in the header, none where there is no header. Answers 422 where it is not as documented."""
    if not header:
        return []
    try:
        reports = loads(header)
        if isinstance(reports, list) and len(reports) > LOSSES_AT_MOST:
            raise ma.ValidationError(f"At most {LOSSES_AT_MOST} reports.")
        return list(_SCHEMA.load(reports))
    except ma.ValidationError as error:
        problem(422, errors={"headers": {HEADER: error.messages}})
    except (ValueError, RecursionError):
        problem(422, errors={"headers": {HEADER: ["Invalid JSON."]}})
