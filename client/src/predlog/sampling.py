"""Sampling: which records are sent whole, and summaries of the others.

A summary counts the predictions of one model, version and minute in the bins of the service's latency sketch, so that
statistics are the same as if all had been sent whole. It travels as one record among the others.
"""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

from predlog.batch import Numbers
from predlog.moments import MINUTE_NS
from predlog.record import Record, measured
from predlog.settings import Settings
from predlog.uuid7 import fraction, uuid7

# The service's: a duration of x ms is in bin ceil(ln(x) / ln(1.01 / 0.99)).
LN_GAMMA = 0.020000666706669435
ZERO_BIN = -100_000
# The limits of the service for a summary, and a shorter time than it takes one for, because a spool may be old.
MAX_BINS = 2_000
MAX_AGE_MINUTES = 24 * 60
# Longer ones are sent whole: the sum of a batch of them in nanoseconds might be more than a double holds exactly.
MAX_SUMMED_MS = 100_000
NS_PER_MS = 1_000_000

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


def bin_of(duration_ms: float) -> int:
    """The bin of a duration in milliseconds, as the service's latency_bin() has it."""
    return math.ceil(math.log(duration_ms) / LN_GAMMA) if duration_ms > 0 else ZERO_BIN


class Sampling:
    """Failures, slow predictions and a share of the others are sent whole."""

    def __init__(self, settings: Settings) -> None:
        self._share = settings.sample
        slowest = settings.sample_keep_slow_ms
        self._slow_ms = MAX_SUMMED_MS if slowest is None else min(slowest, MAX_SUMMED_MS)

    def keeps(self, duration_ms: float, success: bool) -> bool:
        """Whether a record is to be sent whole, whatever else it has."""
        return not success or duration_ms >= self._slow_ms or fraction() < self._share


class Summaries:
    """What is counted of the records of one batch."""

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self._minute = time.time_ns() // MINUTE_NS
        self._counted: dict[tuple[str, str, int], list[tuple[float, int]]] = {}

    def __len__(self) -> int:
        return len(self._counted)

    def take(self, record: Record, logged: Record) -> bool:
        """Whether the record is counted here, and so not sent whole. Raises InvalidRecord.

        `logged` is the record as it was logged, without what before_send made of it. One that was logged with a
        timestamp and an id is sent whole, since the service stores it once however often it is logged. So is one of
        another time than about now.
        """
        name, version, duration_ms, success, time_ns = measured(record)
        if (logged[-1] is not None and logged[-2] is not None) or self._sampling.keeps(duration_ms, success):
            return False
        minute = time_ns // MINUTE_NS
        if not self._minute - MAX_AGE_MINUTES < minute <= self._minute:
            return False
        self._counted.setdefault((name, version, minute), []).append((duration_ms, record[1]))
        return True

    def lines(self) -> Iterator[tuple[Numbers, bytes]]:
        """The summaries, each with the numbers of its records."""
        for (name, version, minute), counted in self._counted.items():
            for part in _narrow(counted):
                yield tuple(number for _, number in part), _line(name, version, minute, [ms for ms, _ in part])


def _narrow(counted: list[tuple[float, int]]) -> Iterator[list[tuple[float, int]]]:
    """Divide until no part has more bins than a summary may have."""
    if len(counted) <= MAX_BINS or len({bin_of(ms) for ms, _ in counted}) <= MAX_BINS:
        yield counted
        return
    counted = sorted(counted)
    yield from _narrow(counted[: len(counted) // 2])
    yield from _narrow(counted[len(counted) // 2 :])


def _line(name: str, version: str, minute: int, durations: list[float]) -> bytes:
    fields: dict[str, Any] = {
        "summary_id": uuid7(),
        "model_name": name,
        **({"model_version": version} if version else {}),
        "timestamp": datetime.fromtimestamp(minute * 60, timezone.utc).isoformat(),
        "count": len(durations),
        "successful_count": len(durations),
        # As the service adds up predictions: each rounded to whole nanoseconds.
        "duration_ms_sum": sum(round(ms * 1e6) for ms in durations) / NS_PER_MS,
        "duration_ms_min": min(durations),
        "duration_ms_max": max(durations),
        "bins": sorted(Counter(map(bin_of, durations)).items()),
    }
    return _encode(fields).encode()
