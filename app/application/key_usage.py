"""When each key was used last: the request remembers it, and a thread writes it a few seconds later."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta

from app.domain.errors import PredlogError

# Each worker remembers the use of a key once in so long.
EVERY = timedelta(minutes=1)
# How many seconds the first use waits for others, which are then written with it.
DELAY_S = 5.0


class KeyUsage:
    """Collects the last uses of keys. A request only looks into a dictionary, and never waits for the database."""

    def __init__(self, write: Callable[[Mapping[int, datetime]], None], delay_s: float = DELAY_S) -> None:
        """`write` keeps the times by key id. If it fails, the next use is remembered a minute later."""
        self._write = write
        self._delay_s = delay_s
        self._noted: dict[int, datetime] = {}
        self._waiting: dict[int, datetime] = {}
        self._lock = threading.Lock()

    def note(self, key_id: int, now: datetime) -> None:
        """Say that a key is used at this moment."""
        last = self._noted.get(key_id)
        if last is not None and now - last < EVERY:
            return
        with self._lock:
            self._noted[key_id] = now
            is_first = not self._waiting
            self._waiting[key_id] = now
        if is_first:
            self._start()

    def _start(self) -> None:
        timer = threading.Timer(self._delay_s, self.flush)
        timer.daemon = True
        try:
            timer.start()
        except RuntimeError:  # the system has no more threads; the request is answered all the same
            with self._lock:
                self._waiting = {}

    def flush(self) -> None:
        """Write the collected uses. If the database is away, a minute of uses is forgotten and nothing else."""
        with self._lock:
            waiting, self._waiting = self._waiting, {}
        if waiting:
            with suppress(PredlogError):
                self._write(waiting)
