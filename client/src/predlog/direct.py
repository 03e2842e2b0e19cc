"""Mode sync: each record is sent by the thread that logs it, for functions that are frozen between two calls."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from predlog.batch_source import Source
from predlog.delivery import Delivery
from predlog.dropped import Dropped
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
    """Sends what waits, one thread at a time.

    What cannot be sent now waits for the next call, or for the first one after the time that the service asked for.
    """

    def __init__(self, source: Source, delivery: Delivery, dropped: Dropped, before: Callable[[], None]) -> None:
        self._source = source
        self._delivery = delivery
        self._dropped = dropped
        self._before = before
        self._locks: dict[str, threading.Lock] = {}  # one, made when it is needed: gevent may replace its kind before
        self._owner = 0
        self._not_before = 0.0  # time.monotonic()

    def send(self, seconds: float, at_once: bool = False) -> bool:
        """Whether all that waited was stored or dropped within that many seconds; no error of the network is raised.

        `at_once` does not wait for the time that the service asked for.
        """
        deadline = time.monotonic() + seconds

        def work() -> bool:
            self._before()
            if not at_once and time.monotonic() < self._not_before:
                return False
            return self._send(lambda: deadline - time.monotonic())

        return bool(self.alone(seconds, work))

    def alone(self, seconds: float, work: Callable[[], Any]) -> Any:
        """What it returns, done while no other thread sends; None if that did not come about within so many seconds."""
        if self._owner == threading.get_ident():  # a signal handler or a hook that logs
            return None
        lock = self._locks.setdefault("sending", threading.Lock())  # of two threads both get the same
        if not lock.acquire(timeout=max(0.0, seconds)):
            return None
        self._owner = threading.get_ident()
        try:
            return work()
        finally:
            self._owner = 0
            lock.release()

    def _send(self, left: Callable[[], float]) -> bool:
        while self._source.waiting() or len(self._dropped):
            for batch in self._source.pending():
                wait = self._delivery.attempt(batch, left)
                if wait is not None:
                    self._source.give_back(batch)
                    if wait.asked_for:
                        self._not_before = time.monotonic() + wait.seconds
                    return False
                self._source.done(batch)
        return True
