"""How often a model is called while it is in use, and whether it has stopped being called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from app.domain.cover import DAYS, HOURS, MINUTES, Level

SILENT_AFTER_GAPS = 10
# Calls are logged with a delay: whatever the gap, silence is not claimed sooner.
MIN_SILENCE = timedelta(minutes=1)
RECENT_BUCKETS = 50


@dataclass(frozen=True)
class Activity:
    """How many calls there were in each bucket of a level that has any: by the bucket's start in seconds since 1970."""

    level: Level
    calls: Mapping[int, int]

    @property
    def spacings(self) -> Sequence[timedelta]:
        """From each bucket with calls to the next one, the shortest first; of recent buckets only."""
        lengths = sorted(later - earlier for earlier, later in pairwise(self._recent))
        return [timedelta(seconds=length) for length in lengths]

    @property
    def mean_gap(self) -> timedelta | None:
        """Time in buckets with calls, by call; None for a single call."""
        recent = self._recent
        calls = sum(self.calls[bucket] for bucket in recent)
        return len(recent) * self.level.width / calls if calls > 1 else None

    @property
    def _recent(self) -> list[int]:
        return sorted(self.calls)[-RECENT_BUCKETS:]


# How far back each level is looked at. A gap of less than two hours is found in minutes, one of less than two days in
# hours; with nothing in ten times as long the model is silent whatever its gap is.
LOOK_BACK = {
    DAYS: None,
    HOURS: SILENT_AFTER_GAPS * 2 * DAYS.width,
    MINUTES: SILENT_AFTER_GAPS * 2 * HOURS.width,
}


def usual_gap(activities: Sequence[Activity]) -> timedelta | None:
    """The time that usually passes between calls while a model is in use; None where it was called only once.

    `activities` are those of days, hours and minutes: finer levels are looked at while the buckets of the coarser ones
    follow each other without a pause. Where there are pauses, as after each run of a nightly job, the gap is what three
    of four of them do not exceed. A single pause is not yet usual: it counts only where nothing finer is known.
    """
    gap = None
    for activity in activities:
        spacings = activity.spacings
        usual = spacings[3 * (len(spacings) - 1) // 4] if spacings else timedelta()
        if usual < 2 * activity.level.width:
            gap = activity.mean_gap or gap
            continue
        gap = usual
        if len(spacings) > 1:
            break
    return gap


def is_silent(last_seen: datetime, gap: timedelta | None, now: datetime) -> bool | None:
    """Whether there was no call for SILENT_AFTER_GAPS times the usual gap; None where that is not known."""
    return None if gap is None else now - last_seen > max(SILENT_AFTER_GAPS * gap, MIN_SILENCE)
