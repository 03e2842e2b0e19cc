"""A closer look at the records of a batch that are not plainly predictions."""

from __future__ import annotations

import marshmallow as ma

from app.application.predictions import PredictionColumns, Rejection
from app.domain.summaries import Summary
from app.presentation import summary_decoder
from app.presentation.errors import problem
from app.presentation.middleware.arguments import MAX_RECORD_BYTES, json_advice, loads
from app.presentation.schemas.predictions import PredictionSchema
from app.presentation.schemas.summaries import SummarySchema
from app.presentation.work_budget import OutOfWork, Work, refuse

# Each bin of a summary is a row of three tables: the bins of a batch cost no more than as many predictions.
MAX_BINS = 20_000

_SCHEMA = PredictionSchema()
_SUMMARY = SummarySchema()


class CloserLook:
    """The results for the records that are not plainly predictions, by their index in the batch.

    Summaries are decoded here, and marshmallow looks at what msgspec refuses.
    """

    def __init__(self, work: Work) -> None:
        self._work = work
        self._bins = MAX_BINS
        self.taken: dict[int, PredictionColumns] = {}
        self.summaries: dict[int, Summary] = {}
        self.rejected: dict[int, Rejection] = {}

    def take(self, place: int, piece: bytes) -> None:
        """Accept or reject a record. Answers 413 if it is one too many."""
        try:
            if summary := summary_decoder.read(piece):
                self._summarize(place, summary)
                return
            self._work.spend(len(piece))
            found = _closer(piece)
            if isinstance(found, Summary):
                self._summarize(place, found)
            else:
                self.taken[place] = found
        except ma.ValidationError as error:
            self.rejected[place] = Rejection(error.normalized_messages())
        except OutOfWork:
            refuse(sorted(self.rejected.items()))

    def _summarize(self, place: int, summary: Summary) -> None:
        self._bins -= len(summary.bins)
        if self._bins < 0:
            problem(413, f"The summaries of a batch must have at most {MAX_BINS} bins together.")
        self.summaries[place] = summary


def _closer(piece: bytes) -> PredictionColumns | Summary:
    if len(piece) > MAX_RECORD_BYTES:
        raise ma.ValidationError(f"Must be at most {MAX_RECORD_BYTES} bytes.")
    try:
        decoded = loads(piece.decode())
    except (ValueError, RecursionError) as error:
        raise ma.ValidationError(["Invalid JSON.", *json_advice(error)]) from None
    if isinstance(decoded, dict) and summary_decoder.ID in decoded:
        summary: Summary = _SUMMARY.load(decoded)
        return summary
    return PredictionColumns.of(_SCHEMA.load(decoded))
