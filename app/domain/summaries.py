"""A summary: predictions that a client has counted instead of sending each of them whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from uuid import UUID

from app.domain.instants import MINUTE, floor
from app.domain.predictions import duration_problem, timestamp_problem
from app.domain.sketch import ROUNDING, ZERO_BIN, bin_of

# A thread logs at most about a million predictions a second, and a summary is about one minute.
MAX_COUNT = 60_000_000
MAX_BINS = 2_000
# The service knows single summaries for a day longer, so that one that is sent again counts once.
MAX_AGE = timedelta(days=30)
# Each duration may have been rounded to whole nanoseconds. The last digits of a sum of doubles depend on their order.
HALF_NS = 0.5e-6
SUM_ROUNDING = 1e-9


@dataclass(frozen=True)
class Summary:
    """Of the predictions of one version of a model in the minute that begins at `timestamp`, these `count`.

    The sum and the extremes of their durations are in milliseconds; `bins` are pairs of a bin of the latency sketch and
    its number of predictions, in the order of the bins. The client chooses `id`, so that a summary that it sends again
    is counted once.
    """

    id: UUID
    model_name: str
    model_version: str
    timestamp: datetime
    count: int
    successful: int
    duration_ms_sum: float
    duration_ms_min: float
    duration_ms_max: float
    bins: Sequence[tuple[int, int]]


def problems(summary: Summary, now: datetime) -> Mapping[str, str]:
    """Return sentences, by field, that say why a summary cannot be true; none if it can."""
    found = {
        "timestamp": _minute_problem(summary.timestamp, now),
        "count": None if 1 <= summary.count <= MAX_COUNT else f"Must be from 1 to {MAX_COUNT}.",
        "successful_count": None if 0 <= summary.successful <= summary.count else "Must be from 0 to `count`.",
        "duration_ms_sum": duration_problem(summary.duration_ms_sum),
        "duration_ms_min": duration_problem(summary.duration_ms_min),
        "duration_ms_max": duration_problem(summary.duration_ms_max),
    }
    if not any(found.values()):
        found = {"duration_ms_min": _extremes_problem(summary)}
    if not any(found.values()):
        found = {"duration_ms_sum": _sum_problem(summary), "bins": _bins_problem(summary)}
    return {field: problem for field, problem in found.items() if problem}


def _minute_problem(minute: datetime, now: datetime) -> str | None:
    if minute < now - MAX_AGE:
        return f"Must not be more than {MAX_AGE.days} days ago."
    return timestamp_problem(minute, now) or (
        None if minute == floor(minute, MINUTE) else "Must be the beginning of a minute."
    )


def _extremes_problem(summary: Summary) -> str | None:
    low, high = summary.duration_ms_min, summary.duration_ms_max
    if low > high:
        return "Must not be more than `duration_ms_max`."
    return "Must be `duration_ms_max` if `count` is 1." if summary.count == 1 and low != high else None


def _sum_problem(summary: Summary) -> str | None:
    least = summary.count * (summary.duration_ms_min - HALF_NS)
    most = summary.count * (summary.duration_ms_max + HALF_NS)
    if least * (1 - SUM_ROUNDING) <= summary.duration_ms_sum <= most * (1 + SUM_ROUNDING):
        return None
    return "Must be from `count` times `duration_ms_min` to `count` times `duration_ms_max`."


def _bins_problem(summary: Summary) -> str | None:
    if not 0 < len(summary.bins) <= MAX_BINS:
        return f"Must have from 1 to {MAX_BINS} bins."
    bins, counts = zip(*summary.bins)
    if not all(later > earlier for earlier, later in pairwise(bins)):
        return "Must be in ascending order, each bin once."
    if min(counts) < 1 or sum(counts) != summary.count:
        return "Must each have at least one prediction, and together `count`."
    if not (_may_hold(bins[0], summary.duration_ms_min) and _may_hold(bins[-1], summary.duration_ms_max)):
        return "Must begin with the bin of `duration_ms_min` and end with the bin of `duration_ms_max`."
    return None


def _may_hold(bin_index: int, duration_ms: float) -> bool:
    """Whether a duration is of that bin; another machine's logarithm may put one beside a bound into the other bin."""
    if duration_ms == 0 or bin_index == ZERO_BIN:
        return duration_ms == 0 and bin_index == ZERO_BIN
    return bin_of(duration_ms * (1 - ROUNDING)) <= bin_index <= bin_of(duration_ms * (1 + ROUNDING))
