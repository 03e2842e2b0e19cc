"""The condition of the database for /metrics: read seldom, and never waited for long."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from app.domain.errors import PredlogError

# Each worker reads the condition once in so many seconds, however often /metrics is scraped.
FRESH_S = 10.0
# How long /metrics waits for a database that hangs, before it answers without the condition.
TIMEOUT_S = 2.0


@dataclass(frozen=True)
class Condition:
    """How far the aggregates are behind, and how large the tables are."""

    engine: str
    lag_s: float
    hours_pending_repair: int
    size_bytes: int


class Watch:
    """Reads the condition in a thread of its own, so that a database that hangs does not block the callers."""

    def __init__(self, read: Callable[[], Condition], clock: Callable[[], float] = time.monotonic) -> None:
        self._read = read
        self._clock = clock
        self._lock = threading.Lock()
        self._reader: threading.Thread | None = None
        self._read_at = float("-inf")
        self._condition: Condition | None = None

    def condition(self) -> Condition | None:
        """Return the condition, some seconds old at most; None if the database does not answer."""
        reader = self._current_reader()
        if reader is not None:
            reader.join(TIMEOUT_S)
            if reader.is_alive():
                return None
        return self._condition

    def _current_reader(self) -> threading.Thread | None:
        with self._lock:
            is_reading = self._reader is not None and self._reader.is_alive()
            if not is_reading and self._clock() - self._read_at >= FRESH_S:
                self._reader = threading.Thread(target=self._renew, name="watch-database", daemon=True)
                self._reader.start()
            return self._reader

    def _renew(self) -> None:
        condition = None
        try:
            condition = self._read()
        except PredlogError:
            pass
        finally:
            self._condition, self._read_at = condition, self._clock()
