"""Turn rows of prediction_log into predictions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timezone
from uuid import UUID

from app.application.predictions import PredictionColumns
from app.domain.predictions import Prediction
from app.infrastructure.postgres.database import Row

COLUMNS = (
    "id, timestamp, model_name, model_version, duration_ms, was_successful, error, metadata::text, request_id::text"
)


def prediction_of(row: Row) -> Prediction:
    """Return the prediction in a row of COLUMNS."""
    prediction_id, timestamp, model_name, model_version, duration_ms, was_successful, error, metadata, request_id = row
    return Prediction(
        id=prediction_id,
        timestamp=utc(timestamp),
        model_name=model_name,
        model_version=model_version,
        duration_ms=duration_ms,
        was_successful=was_successful,
        error=error,
        metadata=json.loads(metadata) if metadata else None,
        request_id=UUID(request_id) if request_id else None,
    )


def predictions_of(rows: Sequence[Row]) -> PredictionColumns:
    """Return the predictions in rows that begin with COLUMNS, column by column."""
    _, timestamp, model_name, model_version, duration_ms, was_successful, error, metadata, request_id, *_ = (
        zip(*rows, strict=True) if rows else [()] * 12
    )
    return PredictionColumns(
        timestamp=[utc(value) for value in timestamp],
        model_name=model_name,
        model_version=model_version,
        duration_ms=duration_ms,
        was_successful=was_successful,
        error=error,
        metadata=metadata,
        request_id=[value and UUID(value) for value in request_id],
    )


def utc(timestamp: datetime) -> datetime:
    """Return the same moment in UTC, because the driver returns it in the session's time zone."""
    return timestamp.astimezone(timezone.utc)
