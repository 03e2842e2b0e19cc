"""Predictions whose request and response arrive in separate events, as inference loggers send them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum
from typing import Protocol

from app.application.predictions import Batch, PredictionColumns, Predictions, Receipt, Rejection
from app.domain.errors import DroppedBehindRetention, StorageUnavailable
from app.domain.predictions import duration_problem

MILLISECOND = timedelta(milliseconds=1)


class Side(Enum):
    """The half of a prediction that an event is about."""

    REQUEST = "request"
    RESPONSE = "response"


@dataclass(frozen=True)
class Halves:
    """The predictions of a batch, each known by one side alone; its timestamp is the time of that side."""

    predictions: PredictionColumns
    sides: Sequence[Side]


@dataclass(frozen=True)
class Joined:
    """Complete predictions, the index in Halves at which each was completed, and the number that still wait.

    A prediction that was complete before is among them if its event came again.
    """

    predictions: PredictionColumns
    places: Sequence[int]
    waiting: int


class HalfStore(Protocol):
    """The store in which a half waits for the other one."""

    def join(self, halves: Halves) -> Joined:
        """Keep each half once, and return the predictions that are complete with it."""
        ...

    def logged(self, joined: Joined) -> None:
        """Note that these predictions are complete, so that they do not count as dropped when they expire."""
        ...

    def expire(self, wait: timedelta, limit: int) -> None:
        """Remove up to `limit` predictions that began to wait longer ago; count the incomplete ones as dropped."""
        ...


class JoinedPredictions:
    """Logs each prediction as soon as both of its sides have arrived."""

    def __init__(self, store: HalfStore, predictions: Predictions, wait: timedelta) -> None:
        """A half waits for `wait` for the other one."""
        self._store = store
        self._predictions = predictions
        self._wait = wait

    def log(self, batch: Batch, sides: Sequence[Side]) -> tuple[Receipt, int]:
        """Keep the halves of a batch and log the predictions that they complete; both are committed.

        `sides` has one side for each entry of the batch. Returns the receipt of the complete predictions, and how many
        predictions wait for their other half.
        """
        rejected = dict(batch.rejected)
        places = [place for place in range(len(sides)) if place not in rejected]
        joined = self._store.join(Halves(batch.predictions, [sides[place] for place in places]))
        places = [places[row] for row in joined.places]
        complete = _in_time(Batch(joined.predictions, dropped=batch.dropped))
        receipt = self._predictions.log_batch(complete)
        rejected |= {places[row]: rejection for row, rejection in receipt.rejected}
        # The predictions are committed, and `expire` looks for them in the log.
        with suppress(StorageUnavailable, DroppedBehindRetention):
            self._store.logged(joined)
            # Remove more halves than arrived, so that a backlog of expired ones shrinks.
            self._store.expire(self._wait, 2 * len(sides) + 10)
        return replace(receipt, rejected=sorted(rejected.items(), key=lambda item: item[0])), joined.waiting


def duration_ms(requested: datetime, responded: datetime) -> float:
    """Return the milliseconds from the request to the response."""
    return (responded - requested) / MILLISECOND


def _in_time(batch: Batch) -> Batch:
    """Return the batch with the predictions rejected whose response is older than their request."""
    wrong = [row for row, duration in enumerate(batch.predictions.duration_ms) if duration_problem(duration)]
    return (
        batch.without(wrong, Rejection({"duration_ms": ["The response must not be before the request."]}))
        if wrong
        else batch
    )
