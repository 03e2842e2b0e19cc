"""What becomes of a batch, whatever stores it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from typing import cast
from uuid import uuid4

from app.application.predictions import Added, Batch, PredictionColumns, Predictions, PredictionStore, Rejection
from app.domain.predictions import Prediction
from app.domain.summaries import Summary

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)
PREDICTION = Prediction("m", 5.0, True, NOW)
SUMMARY = Summary(uuid4(), "m", "", NOW, 1, 1, 5.0, 5.0, 5.0, [(81, 1)])


class Store:
    """Stores batches, and nothing else."""

    def add_many(self, batch: Batch) -> Added:
        return Added(len(batch.predictions), len(batch.summaries), sum(each.count for each in batch.summaries.values()))

    def conflicts(self, predictions: PredictionColumns) -> Sequence[int]:
        return []


def test_a_receipt_counts_each_summary_as_a_record() -> None:
    receipt = Predictions(cast(PredictionStore, Store())).log_batch(
        Batch(PredictionColumns.of(PREDICTION), summaries={1: SUMMARY})
    )
    assert (receipt.stored, receipt.duplicates, receipt.rejected, receipt.summarized) == (2, 0, (), 1)


def test_the_place_of_a_refused_prediction_is_told_behind_summaries() -> None:
    batch = Batch(
        PredictionColumns.together([PredictionColumns.of(PREDICTION), PredictionColumns.of(PREDICTION)]),
        summaries={0: SUMMARY, 2: SUMMARY},
    )
    refused = batch.without([1], Rejection({"model_name": ["No."]}))
    assert [place for place, _ in refused.rejected] == [3]
