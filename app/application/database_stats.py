"""The condition of the database, for whoever watches the service: asked for seldom, and never waited for long."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from app.domain.errors import PredlogError

# However often somebody looks, the database is asked once in so many seconds, by each worker.
FRESH_S = 10.0
# How long to wait for a database that hangs, before the rest is answered without it.
TIMEOUT_S = 2.0


@dataclass(frozen=True)
class Condition:
    """How far the aggregates are behind, and how large all of it is."""

    engine: str
    lag_s: float
    hours_pending_repair: int
    size_bytes: int


class Watch:
    """Looks at the database in a thread of its own: where that hangs, nobody else does."""

    def __init__(self, read: Callable[[], Condition], clock: Callable[[], float] = time.monotonic) -> None:
        self._read = read
        self._clock = clock
        self._lock = threading.Lock()
        self._reader: threading.Thread | None = None
        self._read_at = float("-inf")
        self._condition: Condition | None = None

    def condition(self) -> Condition | None:
        """As it was some seconds ago at most; None where the database does not say."""
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
