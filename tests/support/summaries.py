"""Summaries as a client makes them of predictions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timezone
from math import fsum
from typing import Any
from uuid import uuid4

from app.domain.instants import MINUTE, floor
from app.domain.sketch import bin_of


def minute_of(prediction: dict[str, Any]) -> datetime:
    """The minute that a prediction is of."""
    return floor(datetime.fromisoformat(prediction["timestamp"]), MINUTE)


def summary(predictions: Sequence[dict[str, Any]], **fields: Any) -> dict[str, Any]:
    """A summary of predictions of one model, version and minute."""
    first = predictions[0]
    durations = [prediction["duration_ms"] for prediction in predictions]
    return {
        "summary_id": str(uuid4()),
        "model_name": first["model_name"],
        **({"model_version": first["model_version"]} if first.get("model_version") else {}),
        "timestamp": minute_of(first).isoformat(),
        "count": len(predictions),
        "successful_count": sum(prediction["was_successful"] for prediction in predictions),
        "duration_ms_sum": fsum(durations),
        "duration_ms_min": min(durations),
        "duration_ms_max": max(durations),
        "bins": sorted(Counter(map(bin_of, durations)).items()),
        **fields,
    }


def prediction(model: str, at: datetime, duration_ms: float = 10.0, **fields: Any) -> dict[str, Any]:
    """A prediction as it is sent whole."""
    at = at.astimezone(timezone.utc)
    return {
        "model_name": model,
        "timestamp": at.isoformat(),
        "duration_ms": duration_ms,
        "was_successful": True,
        "request_id": str(uuid4()),
        **fields,
    }
