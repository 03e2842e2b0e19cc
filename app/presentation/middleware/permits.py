"""Limited resources that requests hold for a while: permits and memory."""

from __future__ import annotations

import threading
import time
from queue import Empty, SimpleQueue


class Memory:
    """A number of bytes, of which requests hold some."""

    def __init__(self, size: int) -> None:
        self._lock = threading.Lock()
        self._free = size

    @property
    def is_overdrawn(self) -> bool:
        """Whether requests hold more bytes than there are."""
        return self._free < 0

    def take(self, size: int) -> bool:
        """Take `size` bytes; return False, and take none, if fewer are left."""
        with self._lock:
            if size > self._free:
                return False
            self._free -= size
            return True

    def overdraw(self, size: int) -> None:
        """Take `size` bytes, even if fewer are left."""
        self.give_back(-size)

    def give_back(self, size: int) -> None:
        """Give back `size` bytes."""
        with self._lock:
            self._free += size


class Permits:
    """A number of permits, each held by one request at a time."""

    def __init__(self, number: int) -> None:
        # Faster than threading.Semaphore, which is written in Python.
        self._free: SimpleQueue[None] = SimpleQueue()
        for _ in range(number):
            self._free.put(None)

    def acquire(self, until: float) -> bool:
        """Wait for a permit until this moment of time.monotonic(); return False if none was free."""
        try:
            self._free.get(timeout=max(until - time.monotonic(), 0))
        except Empty:
            return False
        return True

    def release(self) -> None:
        """Give a permit back."""
        self._free.put(None)
