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
        self._early = False
        self._lock: threading.Lock | None = None

    def arm(self) -> None:
        """Make the lock, together with the thread that will sleep on it.

        gevent and eventlet replace both: a thread that they have made a greenlet, and that waits for a lock made
        before, would stop all the others with it.
        """
        lock = threading.Lock()
        lock.acquire()
        self._lock = lock
        if self._early:
            self.set()

    def set(self) -> None:
        """Wake the thread that sleeps, or that sleeps next."""
        self._early = True
        if self._lock is not None:
            with contextlib.suppress(RuntimeError):  # it is up already
                self._lock.release()

    def wait(self, seconds: float) -> bool:
        """Sleep until woken, at most that long; whether it was woken."""
        if self._lock is None:
            self.arm()
        assert self._lock is not None
        return self._lock.acquire(timeout=max(0.0, seconds))
