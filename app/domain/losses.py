"""Losses are data: what clients had to throw away, and why."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

REASONS = ("queue_full", "spool_full", "rejected", "expired")
COUNT_AT_MOST = 10**12


@dataclass(frozen=True)
class Loss:
    """So many calls of a model in the minute that begins at `timestamp` were never logged, for this reason.

    `id` is fixed by the client: a report that is sent again is counted once.
    """

    id: UUID
    model_name: str
    timestamp: datetime
    reason: str
    count: int
