"""Mode sync: each record is sent by the thread that logs it, for functions that are frozen between two calls."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from predlog.batch_source import Source
from predlog.delivery import Delivery
from predlog.losses import Losses
from predlog.record import Record
from predlog.record_queue import Intake


class DirectIntake(Intake):
    """Takes a record, and has it sent before the caller goes on."""

    send: Callable[[], object]

    def put(self, record: Record) -> None:
        """Queue the record and send what waits."""
        super().put(record)
        if self.heir is None:
            self.send()


class Direct:
    """Sends what waits, one thread at a time; what cannot be sent now waits for the next call."""

    def __init__(self, source: Source, delivery: Delivery, losses: Losses, before: Callable[[], None]) -> None:
        self._source = source
        self._delivery = delivery
        self._losses = losses
        self._before = before
        self._lock: threading.Lock | None = None
        self._owner = 0

    def send(self, seconds: float) -> bool:
        """Whether all that waited was settled within that many seconds; never raises for the network's sake."""
        if self._owner == threading.get_ident():  # a signal handler or a hook that logs
            return False
        deadline = time.monotonic() + seconds
        self._lock = lock = self._lock or threading.Lock()
        if not lock.acquire(timeout=max(0.0, seconds)):
            return False
        self._owner = threading.get_ident()
        try:
            self._before()
            return self._send(lambda: deadline - time.monotonic())
        finally:
            self._owner = 0
            lock.release()

    def _send(self, left: Callable[[], float]) -> bool:
        while self._source.waiting() or len(self._losses):
            for batch in self._source.pending():
                if self._delivery.attempt(batch, left) is not None:
                    self._source.give_back(batch)
                    return False
                self._source.done(batch)
        return True
