"""Log predictions and look at them one by one."""

from __future__ import annotations

from collections.abc import Collection, Sequence, Set
from dataclasses import dataclass, fields, replace
from datetime import datetime
from itertools import chain, count
from operator import itemgetter
from typing import Any, Protocol
from uuid import UUID

from app.domain.dropped import DroppedReport
from app.domain.errors import BehindRetention, NotFound, RequestIdConflict
from app.domain.predictions import Prediction, metadata_json


@dataclass(frozen=True)
class Calls:
    """Many calls, column by column: Prediction's fields, the metadata as JSON text."""

    timestamp: Sequence[datetime]
    model_name: Sequence[str]
    model_version: Sequence[str]
    duration_ms: Sequence[float]
    was_successful: Sequence[bool]
    error: Sequence[str | None]
    metadata: Sequence[str | None]
    request_id: Sequence[UUID | None]

    @classmethod
    def of(cls, prediction: Prediction) -> Calls:
        """A single one."""
        metadata = None if prediction.metadata is None else metadata_json(prediction.metadata)
        values = vars(prediction) | {"metadata": metadata}
        return cls(**{column.name: [values[column.name]] for column in fields(cls)})

    @classmethod
    def together(cls, parts: Sequence[Calls]) -> Calls:
        """The calls of all parts, one after the other."""
        return cls(**{
            column.name: list(chain.from_iterable(getattr(part, column.name) for part in parts))
            for column in fields(cls)
        })  # fmt: skip

    def __len__(self) -> int:
        return len(self.timestamp)

    def at(self, places: Sequence[int]) -> Calls:
        """The calls at these places."""
        return Calls(**{name: [column[place] for place in places] for name, column in vars(self).items()})


@dataclass(frozen=True)
class Batch:
    """Many calls at once.

    `calls` have been checked; `rejected` has what was wrong with the others, by their place in the batch. `losses` are
    what the client reports. `in_order` says that those with a request id come in the order of these ids.
    """

    calls: Calls
    rejected: Sequence[tuple[int, dict[str, Any]]] = ()
    losses: Sequence[DroppedReport] = ()
    in_order: bool = False

    def without_calls_before(self, retention: BehindRetention) -> Batch:
        """The same batch with the calls rejected that retention would not keep."""
        behind = [row for row, timestamp in enumerate(self.calls.timestamp) if timestamp < retention.edge]
        return self.without(behind, {retention.field: [retention.message]})

    def without(self, rows: Collection[int], errors: dict[str, Any]) -> Batch:
        """The same batch with the calls at these places of `calls` rejected for the same reason."""
        rejected = dict(self.rejected)
        places = [
            place for place, _ in zip((place for place in count() if place not in rejected), self.calls.timestamp)
        ]
        rejected |= {places[row]: errors for row in rows}
        gone = set(rows)
        calls = self.calls.at([row for row in range(len(self.calls)) if row not in gone])
        return replace(self, calls=calls, rejected=sorted(rejected.items(), key=itemgetter(0)))

    def with_dropped(self, losses: Sequence[DroppedReport]) -> Batch:
        """The same batch with what its sender had to throw away."""
        return replace(self, losses=losses)


@dataclass(frozen=True)
class Receipt:
    """What became of a batch."""

    stored: int
    duplicates: int
    rejected: Sequence[tuple[int, dict[str, Any]]]


class PredictionStore(Protocol):
    """Where predictions are kept."""

    def add(self, prediction: Prediction) -> tuple[Prediction, bool]: ...

    def add_many(self, batch: Batch) -> int: ...

    def conflicts(self, calls: Calls) -> Sequence[int]: ...

    def get(self, prediction_id: int) -> Prediction | None: ...

    def remove(self, prediction: Prediction) -> bool: ...


class Predictions:
    """The logged calls."""

    def __init__(self, store: PredictionStore) -> None:
        self._store = store

    def log(self, prediction: Prediction) -> tuple[Prediction, bool]:
        """Keep a prediction and say whether it is new; the same request id and timestamp give back the first record.

        Raises RequestIdConflict if that is a call of another model.
        """
        return self._store.add(prediction)

    def log_batch(self, batch: Batch) -> Receipt:
        """Keep a batch and the losses reported with it; what was stored before is counted and not stored again.

        Calls that retention would not keep are rejected, and those whose request id and timestamp a call of another
        model has.
        """
        try:
            stored = self._store.add_many(batch) if batch.calls or batch.losses else 0
        except BehindRetention as error:
            return self.log_batch(batch.without_calls_before(error))
        if stored < len(batch.calls):
            problems = {"request_id": [RequestIdConflict.message]}
            batch = batch.without(self._store.conflicts(batch.calls), problems)
        return Receipt(stored, len(batch.calls) - stored, batch.rejected)

    def get(self, prediction_id: int, models: Set[str] | None = None) -> Prediction:
        """Return one prediction. Raises NotFound, also for one of a model that is not among `models` (None: any)."""
        prediction = self._store.get(prediction_id)
        if prediction is None or (models is not None and prediction.model_name not in models):
            raise NotFound(f"There is no prediction with id {prediction_id}.")
        return prediction

    def delete(self, prediction_id: int) -> None:
        """Remove one prediction, from the statistics as well. Raises NotFound."""
        if not self._store.remove(self.get(prediction_id)):
            raise NotFound(f"There is no prediction with id {prediction_id}.")
