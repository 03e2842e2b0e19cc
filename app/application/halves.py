"""Calls of which the request and the response come each in its own time, as inference loggers send them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum
from typing import Protocol

from app.application.predictions import Batch, Calls, Predictions, Receipt
from app.domain.predictions import duration_problem

MILLISECOND = timedelta(milliseconds=1)


class Side(Enum):
    """Which half of a call an event tells of."""

    REQUEST = "request"
    RESPONSE = "response"


@dataclass(frozen=True)
class Halves:
    """The calls of a batch, of each of which one side is known: its time is that of the side."""

    calls: Calls
    sides: Sequence[Side]


@dataclass(frozen=True)
class Joined:
    """Calls of which both sides are known, and at which place of Halves each was completed; how many others wait.

    A call that had been complete before is among them, since its event may have come again.
    """

    calls: Calls
    places: Sequence[int]
    waiting: int


class HalfStore(Protocol):
    """Where a half waits for the other one."""

    def join(self, halves: Halves) -> Joined:
        """Keep the halves, each only once, and return the calls that are complete."""
        ...

    def expire(self, wait: timedelta, limit: int) -> None:
        """Remove up to `limit` calls that began to wait longer ago; each of which a half is missing was dropped."""
        ...


class JoinedCalls:
    """Logs each call once both of its sides have come."""

    def __init__(self, store: HalfStore, predictions: Predictions, wait: timedelta) -> None:
        """A half waits for `wait` for the other one."""
        self._store = store
        self._predictions = predictions
        self._wait = wait

    def log(self, batch: Batch, sides: Sequence[Side]) -> tuple[Receipt, int]:
        """Keep the halves of a batch and log the calls that are complete with them. `sides` goes by place in the batch.

        Both are committed. Returns what became of the complete ones, and how many calls wait for their other half.
        """
        rejected = dict(batch.rejected)
        places = [place for place in range(len(sides)) if place not in rejected]
        joined = self._store.join(Halves(batch.calls, [sides[place] for place in places]))
        places = [places[row] for row in joined.places]
        complete = _in_time(Batch(joined.calls, losses=batch.losses))
        receipt = self._predictions.log_batch(complete)
        rejected |= {places[row]: errors for row, errors in receipt.rejected}
        # As many as came may go, and some more, so that they become fewer than they are.
        self._store.expire(self._wait, 2 * len(sides) + 10)
        return replace(receipt, rejected=sorted(rejected.items(), key=lambda item: item[0])), joined.waiting


def duration_ms(requested: datetime, responded: datetime) -> float:
    """Milliseconds from the request to the response."""
    return (responded - requested) / MILLISECOND


def _in_time(batch: Batch) -> Batch:
    """The same batch with the calls rejected whose response is older than their request."""
    wrong = [row for row, duration in enumerate(batch.calls.duration_ms) if duration_problem(duration)]
    return batch.without(wrong, {"duration_ms": ["The response must not be before the request."]}) if wrong else batch
