"""What there is so much of, and requests hold for a while."""

from __future__ import annotations

import threading
import time
from queue import Empty, SimpleQueue


class Memory:
    """So many bytes, of which requests hold some."""

    def __init__(self, size: int) -> None:
        self._lock = threading.Lock()
        self._free = size

    @property
    def is_overdrawn(self) -> bool:
        """Whether more is held than there is."""
        return self._free < 0

    def take(self, size: int) -> bool:
        """Take so many bytes if there are so many."""
        with self._lock:
            if size > self._free:
                return False
            self._free -= size
            return True

    def overdraw(self, size: int) -> None:
        """Take so many bytes, even if there are not so many."""
        self.give_back(-size)

    def give_back(self, size: int) -> None:
        """Give back bytes that were taken."""
        with self._lock:
            self._free += size


class Permits:
    """So many, each held by one request at a time."""

    def __init__(self, number: int) -> None:
        # Faster than threading.Semaphore, which is written in Python.
        self._free: SimpleQueue[None] = SimpleQueue()
        for _ in range(number):
            self._free.put(None)

    def acquire(self, until: float) -> bool:
        """Wait for one; False if none was free until this moment of time.monotonic()."""
        try:
            self._free.get(timeout=max(until - time.monotonic(), 0))
        except Empty:
            return False
        return True

    def release(self) -> None:
        """Give one back."""
        self._free.put(None)
