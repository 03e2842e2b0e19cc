"""Decode valid summaries with msgspec; marshmallow looks at the others, and words their errors."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta

from app.domain.predictions import MAX_MODEL_NAME_LENGTH, MAX_MODEL_VERSION_LENGTH, NO_VERSION
from app.domain.summaries import Summary, problems
from app.presentation.middleware.arguments import MAX_RECORD_BYTES

# The field that tells a summary from a prediction.
ID = "summary_id"
# Without these bytes there is no summary in a body.
MARK = f'"{ID}"'.encode()


class _Sent(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A summary as it is sent in a batch; SummarySchema has the same checks."""

    summary_id: UUID
    model_name: Annotated[str, Meta(min_length=1, max_length=MAX_MODEL_NAME_LENGTH)]
    timestamp: datetime
    count: int
    duration_ms_sum: float
    duration_ms_min: float
    duration_ms_max: float
    bins: list[tuple[int, int]]
    successful_count: int
    model_version: Annotated[str, Meta(min_length=1, max_length=MAX_MODEL_VERSION_LENGTH)] | None = None


_DECODER = msgspec.json.Decoder(_Sent)


def read(piece: bytes) -> Summary | None:
    """Return the summary in a piece of JSON; None if there is no valid one in it."""
    if MARK not in piece or len(piece) > MAX_RECORD_BYTES:
        return None
    try:
        sent = _DECODER.decode(piece)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if "\x00" in sent.model_name or "\x00" in (sent.model_version or ""):
        return None
    try:
        timestamp = sent.timestamp.astimezone(timezone.utc) if sent.timestamp.tzinfo else _utc(sent.timestamp)
    except OverflowError:
        return None
    summary = Summary(
        sent.summary_id,
        sent.model_name,
        sent.model_version or NO_VERSION,
        timestamp,
        sent.count,
        sent.successful_count,
        sent.duration_ms_sum,
        sent.duration_ms_min,
        sent.duration_ms_max,
        sent.bins,
    )
    return None if problems(summary, datetime.now(timezone.utc)) else summary


def _utc(timestamp: datetime) -> datetime:
    return timestamp.replace(tzinfo=timezone.utc)
