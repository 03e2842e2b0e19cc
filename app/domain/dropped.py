"""What clients dropped, and why: predictions that were made but never logged."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from app.domain.predictions import timestamp_problem

REASONS = ("queue_full", "spool_full", "rejected", "expired", "exit")
# A thread logs at most about a million predictions a second, and a report is about one minute.
MAX_COUNT = 60_000_000
MAX_REPORTS = 100
# Four times as long as the Python client by default keeps predictions that it cannot deliver.
MAX_AGE = timedelta(days=30)
# The largest sum of counts in an answer: PostgreSQL's largest bigint.
SATURATION = 2**63 - 1


@dataclass(frozen=True)
class DroppedReport:
    """In the minute that begins at `timestamp` a client dropped `count` predictions of a model, for this reason.

    The client chooses `id`, so that a report that it sends again is counted once.
    """

    id: UUID
    model_name: str
    timestamp: datetime
    reason: str
    count: int


def minute_problem(minute: datetime, now: datetime) -> str | None:
    """Return a sentence that says why a report cannot be about that minute; None if it can."""
    if minute < now - MAX_AGE:
        return f"Must not be more than {MAX_AGE.days} days ago."
    return timestamp_problem(minute, now)


def sum_problem(counts: Iterable[int]) -> str | None:
    """Return a sentence that says why one request cannot report these counts together; None if it can."""
    if sum(counts) > MAX_COUNT:
        return f"The counts of one request must not add up to more than {MAX_COUNT}: send several requests."
    return None
