"""Count the records that were dropped: how many, of which model, in which minute, and why."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from typing import Any

from predlog.moments import MINUTE_NS
from predlog.record import belongs_to, count_of
from predlog.text import NAME_CHARACTERS, UNNAMED, clean
from predlog.uuid7 import uuid7

HEADER = "Predlog-Dropped"
MAX_REPORTS = 20
MAX_HEADER_BYTES = 4096
MAX_KEYS = 5000
# The limits of the service: counts of a request add up to this at most, and minutes are of the last 30 days.
MAX_COUNT = 60_000_000
MAX_AGE_MINUTES = 30 * 24 * 60

QUEUE_FULL, SPOOL_FULL, REJECTED, EXPIRED = "queue_full", "spool_full", "rejected", "expired"
EXIT = "exit"  # reported by the next process, if it finds the count
CLOSED = "closed"  # seen by the host alone

Report = dict[str, Any]

_STEPS = (1, 60, 24 * 60)
_EARLIEST = 10957 * 24 * 60  # the year 2000
_AHEAD = 4


class Dropped:
    """Counts dropped records until a batch takes them to the service as reports.

    A report gets its identifier when it is first taken, so the service counts it once however often it is sent.
    """

    def __init__(self) -> None:
        self.totals: Counter[str] = Counter()
        self._counts: Counter[tuple[str, int, str]] = Counter()
        self._returned: list[Report] = []
        self._step = _STEPS[0]
        # Re-entrant: a signal handler that logs may interrupt a call that holds it.
        self._lock = threading.RLock()

    def __len__(self) -> int:
        return len(self._counts) + len(self._returned)

    def waiting(self) -> int:
        """Return the number of dropped records that were not reported yet."""
        with self._lock:
            returned: int = sum(report["count"] for report in self._returned)
            return sum(self._counts.values()) + returned

    def add(self, model_name: object, time_ns: int, reason: str, count: int = 1) -> None:
        """Count records of one model and minute as dropped."""
        name = model_name if type(model_name) is str and model_name else UNNAMED
        with self._lock:
            self.totals[reason] += count
            minute = time_ns // MINUTE_NS
            key = name[:NAME_CHARACTERS], minute - minute % self._step, reason
            if len(self._counts) >= MAX_KEYS and key not in self._counts:
                if self._step == _STEPS[-1]:  # more models than anybody has: their names were made up
                    key = UNNAMED, *key[1:]
                else:
                    self._coarsen()
                    key = key[0], minute - minute % self._step, reason
            self._counts[key] += count

    def add_lines(self, lines: Iterable[bytes], reason: str) -> None:
        """Count encoded records as dropped, each for as many as it stands for."""
        for line in lines:
            self.add(*belongs_to(line), reason, count_of(line))

    def by_model(self) -> Counter[str]:
        """Return the number of dropped records that were not reported yet, by model."""
        counts: Counter[str] = Counter()
        with self._lock:
            for (name, _, _), count in self._counts.items():
                counts[name] += count
            for report in self._returned:
                counts[report["model_name"]] += report["count"]
        return counts

    def take_over(self, model_name: str, time_ns: int, count: int) -> None:
        """Count records that another process has dropped: they are reported, but not in this process's totals."""
        with self._lock:
            self._counts[model_name, time_ns // MINUTE_NS, EXIT] += count

    def unreported(self, reason: str, count: int = 1) -> None:
        """Count records as dropped for the host alone."""
        with self._lock:
            self.totals[reason] += count

    def take(self, most: int = 100) -> list[Report]:
        """Remove and return up to `most` reports; the caller sends them, or gives them back."""
        with self._lock:
            reports = self._returned[:most]
            del self._returned[:most]
            while self._counts and len(reports) < most:
                key, count = self._counts.popitem()
                if count > MAX_COUNT:
                    self._counts[key] = count - MAX_COUNT
                    count = MAX_COUNT
                name, minute, reason = key
                reports.append(
                    {
                        "id": uuid7(),
                        "model_name": clean(name),
                        "reason": reason,
                        "count": count,
                        "timestamp": _moment(minute).isoformat(),
                    }
                )
            if not self._counts:
                self._step = _STEPS[0]
            return reports

    def give_back(self, reports: Sequence[Report]) -> None:
        """Keep reports that did not arrive, under the identifiers they have."""
        with self._lock:
            self._returned.extend(reports)

    def forget(self) -> None:
        """Forget all counts in a forked child, because the parent reports them."""
        self._counts.clear()
        self._returned.clear()

    def _coarsen(self) -> None:
        """Count by the hour, then by the day, because an outage of days over many models must not use up memory."""
        self._step = _STEPS[_STEPS.index(self._step) + 1]
        counts: Counter[tuple[str, int, str]] = Counter()
        for (name, minute, reason), count in self._counts.items():
            counts[name, minute - minute % self._step, reason] += count
        self._counts = counts


def _moment(minute: int) -> datetime:
    """Return the minute since 1970, or now if the service refuses it: a record with an absurd time was dropped, too."""
    now = int(time.time() // 60)
    return datetime.fromtimestamp((minute if _EARLIEST <= minute <= now + _AHEAD else now) * 60, timezone.utc)


def _is_since(oldest: float, timestamp: str) -> bool:
    try:
        return datetime.fromisoformat(timestamp).timestamp() >= oldest
    except (ValueError, OverflowError):
        return False


def header(reports: Sequence[Report], most: int = MAX_REPORTS) -> tuple[str, int]:
    """Return as many of the first reports as one header may carry, as ASCII JSON, and their number.

    A report that has waited too long, as in a spool, gets the present minute, because the service refuses old ones. So
    does one whose time cannot be read: a spool file may have been written by anyone.
    """
    parts: list[str] = []
    size, total = 1, 0
    oldest = time.time() - (MAX_AGE_MINUTES - 1) * 60
    for report in reports[:most]:
        if not _is_since(oldest, report["timestamp"]):
            report = {**report, "timestamp": _moment(0).isoformat()}
        part = json.dumps(report, separators=(",", ":"))
        size += len(part) + 1
        total += report["count"]
        if parts and (size > MAX_HEADER_BYTES or total > MAX_COUNT):
            break
        parts.append(part)
    return f"[{','.join(parts)}]", len(parts)
