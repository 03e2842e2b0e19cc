"""How often a model is called while it is in use, and whether it has stopped being called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from app.domain.cover import DAYS, HOURS, MINUTES, Level

SILENT_AFTER_GAPS = 10
# Predictions are logged with a delay, so no model is called silent sooner than this.
MIN_SILENCE = timedelta(minutes=1)
RECENT_BUCKETS = 50


@dataclass(frozen=True)
class Activity:
    """The number of predictions in each bucket of a level that has any, by the bucket's start in seconds since 1970."""

    level: Level
    predictions: Mapping[int, int]

    @property
    def spacings(self) -> Sequence[timedelta]:
        """The times from each recent bucket with predictions to the next one, the shortest first."""
        lengths = sorted(later - earlier for earlier, later in pairwise(self._recent))
        return [timedelta(seconds=length) for length in lengths]

    @property
    def mean_gap(self) -> timedelta | None:
        """The width of all recent buckets divided by their number of predictions; None for a single prediction."""
        recent = self._recent
        predictions = sum(self.predictions[bucket] for bucket in recent)
        return len(recent) * self.level.width / predictions if predictions > 1 else None

    @property
    def _recent(self) -> list[int]:
        return sorted(self.predictions)[-RECENT_BUCKETS:]


# How far back each level is read. Minutes show gaps of less than two hours, hours show gaps of less than two days. A
# model without a prediction for ten times as long is silent in any case.
LOOK_BACK = {
    DAYS: None,
    HOURS: SILENT_AFTER_GAPS * 2 * DAYS.width,
    MINUTES: SILENT_AFTER_GAPS * 2 * HOURS.width,
}


def usual_gap(activities: Sequence[Activity]) -> timedelta | None:
    """Return the time that usually passes between predictions while a model is in use.

    `activities` are those of days, hours and minutes, in this order. A finer level decides if the buckets of the
    coarser one follow each other without a pause. If there are pauses, as after each run of a nightly job, the usual
    gap is the length that three of four pauses do not exceed. A single pause counts only if no finer level is known.
    Returns None for a single prediction.
    """
    gap = None
    for activity in activities:
        spacings = activity.spacings
        usual = spacings[(3 * len(spacings) - 1) // 4] if spacings else timedelta()
        if usual < 2 * activity.level.width:
            gap = activity.mean_gap or gap
            continue
        gap = usual
        if len(spacings) > 1:
            break
    return gap


def is_silent(last_seen: datetime, gap: timedelta | None, now: datetime) -> bool | None:
    """Return whether the last prediction is older than SILENT_AFTER_GAPS usual gaps; None if the gap is not known."""
    return None if gap is None else now - last_seen > max(SILENT_AFTER_GAPS * gap, MIN_SILENCE)
