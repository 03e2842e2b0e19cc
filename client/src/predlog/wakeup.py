"""Waking a thread from anywhere."""

from __future__ import annotations

import contextlib
import threading


class Wakeup:
    """A flag that a thread sleeps on and that its waking lowers again.

    Not threading.Event: a signal handler or a finalizer that sets one while its own thread holds the event's lock
    waits for itself. Releasing a bare lock cannot.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def set(self) -> None:
        """Wake whoever sleeps, or who sleeps next."""
        with contextlib.suppress(RuntimeError):  # it is up already
            self._lock.release()

    def wait(self, seconds: float) -> bool:
        """Sleep until woken, at most that long; whether it was woken."""
        return self._lock.acquire(timeout=max(0.0, seconds))
