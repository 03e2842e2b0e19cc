"""Log predictions and look at them one by one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence, Set
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from itertools import chain, count
from operator import itemgetter
from typing import Any, Protocol
from uuid import UUID

from app.domain.dropped import DroppedReport
from app.domain.errors import BehindRetention, NotFound, RequestIdConflict
from app.domain.predictions import Prediction, metadata_json
from app.domain.summaries import Summary


@dataclass(frozen=True)
class PredictionColumns:
    """Many predictions, column by column: Prediction's fields, the metadata as JSON text."""

    timestamp: Sequence[datetime]
    model_name: Sequence[str]
    model_version: Sequence[str]
    duration_ms: Sequence[float]
    was_successful: Sequence[bool]
    error: Sequence[str | None]
    metadata: Sequence[str | None]
    request_id: Sequence[UUID | None]

    @classmethod
    def of(cls, prediction: Prediction) -> PredictionColumns:
        """Return the columns of a single prediction."""
        metadata = None if prediction.metadata is None else metadata_json(prediction.metadata)
        values = vars(prediction) | {"metadata": metadata}
        return cls(**{column.name: [values[column.name]] for column in fields(cls)})

    @classmethod
    def together(cls, parts: Sequence[PredictionColumns]) -> PredictionColumns:
        """Return the predictions of all parts, one after the other."""
        return cls(**{
            column.name: list(chain.from_iterable(getattr(part, column.name) for part in parts))
            for column in fields(cls)
        })  # fmt: skip

    def __len__(self) -> int:
        return len(self.timestamp)

    def at(self, places: Sequence[int]) -> PredictionColumns:
        """Return the predictions at these indexes."""
        return PredictionColumns(**{name: [column[place] for place in places] for name, column in vars(self).items()})


@dataclass(frozen=True)
class Rejection:
    """Why a prediction of a batch was not stored: the errors by field, in marshmallow's form."""

    errors: Mapping[str, Any]


class ModelNotAllowed(Rejection):
    """The caller's key may not log the model."""


Rejected = Sequence[tuple[int, Rejection]]


@dataclass(frozen=True)
class Batch:
    """Many predictions at once.

    `predictions` are the valid ones; `rejected` has the others, by their index in the batch, and `summaries` has the
    summaries, by theirs. `dropped` are the client's reports. `in_order` says that predictions with a request id come in
    the order of these ids.
    """

    predictions: PredictionColumns
    rejected: Rejected = ()
    dropped: Sequence[DroppedReport] = ()
    in_order: bool = False
    summaries: Mapping[int, Summary] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return the number of records that are not rejected."""
        return len(self.predictions) + len(self.summaries)

    def without_records_before(self, retention: BehindRetention) -> Batch:
        """Return the batch with the predictions and summaries rejected that are older than retention keeps."""
        behind = [row for row, timestamp in enumerate(self.predictions.timestamp) if timestamp < retention.edge]
        rejection = Rejection({retention.field: [retention.message]})
        return self.without(behind, rejection).without_summaries(
            lambda summary: summary.timestamp < retention.edge, rejection
        )

    def without(self, rows: Collection[int], rejection: Rejection) -> Batch:
        """Return the batch with the predictions at these indexes of `predictions` rejected for the same reason."""
        rejected = dict(self.rejected)
        others = rejected.keys() | self.summaries.keys()
        places = [
            place for place, _ in zip((place for place in count() if place not in others), self.predictions.timestamp)
        ]
        rejected |= {places[row]: rejection for row in rows}
        gone = set(rows)
        predictions = self.predictions.at([row for row in range(len(self.predictions)) if row not in gone])
        return replace(self, predictions=predictions, rejected=sorted(rejected.items(), key=itemgetter(0)))

    def without_summaries(self, is_refused: Callable[[Summary], bool], rejection: Rejection) -> Batch:
        """Return the batch with some of its summaries rejected for the same reason."""
        refused = {place for place, summary in self.summaries.items() if is_refused(summary)}
        if not refused:
            return self
        rejected = {**dict(self.rejected), **dict.fromkeys(refused, rejection)}
        summaries = {place: summary for place, summary in self.summaries.items() if place not in refused}
        return replace(self, summaries=summaries, rejected=sorted(rejected.items(), key=itemgetter(0)))

    def with_dropped(self, dropped: Sequence[DroppedReport]) -> Batch:
        """Return the batch with its sender's reports of dropped predictions."""
        return replace(self, dropped=dropped)


@dataclass(frozen=True)
class Receipt:
    """The result of a batch: how many of its records were stored, were stored before, and were rejected.

    `summarized` is how many predictions the summaries among the stored records count.
    """

    stored: int
    duplicates: int
    rejected: Rejected
    summarized: int = 0


@dataclass(frozen=True)
class Added:
    """How many predictions and summaries of a batch are new, and how many predictions the new summaries count."""

    predictions: int
    summaries: int = 0
    summarized: int = 0


class PredictionStore(Protocol):
    """The store of predictions."""

    def add(self, prediction: Prediction) -> tuple[Prediction, bool]: ...

    def add_many(self, batch: Batch) -> Added: ...

    def conflicts(self, predictions: PredictionColumns) -> Sequence[int]: ...

    def get(self, prediction_id: int) -> Prediction | None: ...

    def remove(self, prediction: Prediction) -> bool: ...


class Predictions:
    """The log of predictions."""

    def __init__(self, store: PredictionStore) -> None:
        self._store = store

    def log(self, prediction: Prediction) -> tuple[Prediction, bool]:
        """Store a prediction; return it with its id, and whether it is new.

        If a prediction with the same request id and timestamp was stored before, that one is returned. Raises
        RequestIdConflict if that one is of another model, BehindRetention and StorageUnavailable.
        """
        return self._store.add(prediction)

    def log_batch(self, batch: Batch) -> Receipt:
        """Store a batch and the reports of dropped predictions in it; predictions that were stored before are counted.

        Predictions and summaries that are older than retention keeps are rejected. So are predictions whose request id
        and timestamp a prediction of another model has. Raises StorageUnavailable.
        """
        try:
            added = self._store.add_many(batch) if len(batch) or batch.dropped else Added(0)
        except BehindRetention as error:
            return self.log_batch(batch.without_records_before(error))
        if added.predictions < len(batch.predictions):
            conflict = Rejection({"request_id": [RequestIdConflict.message]})
            batch = batch.without(self._store.conflicts(batch.predictions), conflict)
        stored = added.predictions + added.summaries
        return Receipt(stored, len(batch) - stored, batch.rejected, added.summarized)

    def get(self, prediction_id: int, models: Set[str] | None = None) -> Prediction:
        """Return one prediction. Raises NotFound, also if its model is not among `models` (None: any)."""
        prediction = self._store.get(prediction_id)
        if prediction is None or (models is not None and prediction.model_name not in models):
            raise NotFound(f"There is no prediction with id {prediction_id}.")
        return prediction

    def delete(self, prediction_id: int) -> None:
        """Remove one prediction, from the statistics as well. Raises NotFound."""
        if not self._store.remove(self.get(prediction_id)):
            raise NotFound(f"There is no prediction with id {prediction_id}.")
