"""Losses are data: what clients had to throw away, and why."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from app.domain.predictions import timestamp_problem

REASONS = ("queue_full", "spool_full", "rejected", "expired", "exit")
# A thread logs at most about a million calls a second, and a report is about one minute.
MAX_COUNT = 60_000_000
MAX_REPORTS = 100
# Four times as long as the Python client keeps by default what it cannot deliver.
MAX_AGE = timedelta(days=30)
# Where a sum of counts ends, as it is answered: PostgreSQL's largest bigint.
SATURATION = 2**63 - 1


@dataclass(frozen=True)
class DroppedReport:
    """So many calls of a model in the minute that begins at `timestamp` were never logged, for this reason.

    `id` is fixed by the client: a report that is sent again is counted once.
    """

    id: UUID
    model_name: str
    timestamp: datetime
    reason: str
    count: int


def minute_problem(minute: datetime, now: datetime) -> str | None:
    """Say why a report cannot be about that minute, or None if it can."""
    if minute < now - MAX_AGE:
        return f"Must not be more than {MAX_AGE.days} days ago."
    return timestamp_problem(minute, now)


def sum_problem(counts: Iterable[int]) -> str | None:
    """Say why the reports of one request cannot have these counts together, or None if they can."""
    if sum(counts) > MAX_COUNT:
        return f"The counts of one request must not add up to more than {MAX_COUNT}: send several requests."
    return None
