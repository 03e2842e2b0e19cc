"""The loops of the client's threads: one sends, and with a spool another one writes the records to files."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import chain

from predlog.batch_source import Source
from predlog.delivery import Delivery, Wait
from predlog.record_queue import Intake
from predlog.settings import Settings
from predlog.spool import Spool
from predlog.wakeup import Wakeup

SOONEST = 0.2  # seconds between attempts, however often the host calls flush()
INITIAL_FLUSH = 0.1  # seconds
SPOOL_INTERVAL = 0.1  # seconds, at most, that a record is in memory alone if there is a spool
CLOSING_POLL = 0.02
FOREVER = float("inf")
TIMEOUT_WITH_BROKEN_SPOOL = 5  # flush intervals between attempts to write
BOOKS_EVERY = 1.0  # seconds between notes of dropped records, for the process after this one
REPORTS_EVERY = 10.0  # seconds: in a long outage the reports must not crowd the records out of the spool


class Closing:
    """Whether, and until when, there is still time to send."""

    def __init__(self) -> None:
        self.by: float | None = None  # time.monotonic()

    def begin(self, timeout: float) -> None:
        """Stop within that many seconds; a later call cannot give more time."""
        by = time.monotonic() + timeout
        self.by = by if self.by is None else min(by, self.by)

    def left(self, most: float) -> float:
        """Seconds that are left, at most that many."""
        return most if self.by is None else min(most, self.by - time.monotonic())


class Sender:
    """Sends what the source has until it is closed and the source is empty, or its time is up."""

    def __init__(
        self,
        settings: Settings,
        source: Source,
        delivery: Delivery,
        closing: Closing,
        nudge: Wakeup,
        collected: Callable[[], bool],
        empty: Callable[[], bool],
        keep_books: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._source = source
        self._delivery = delivery
        self._closing = closing
        self._nudge = nudge
        self._collected = collected
        self._empty = empty
        self._keep_books = keep_books

    def run(self) -> None:
        """Send until closed."""
        if self._closing.by is None:  # soon for once: many a process lives no longer than its first prediction
            self._source.wait(min(INITIAL_FLUSH, self._settings.flush_interval))
        while True:
            self._keep_books()
            last = self._closing.by is not None and self._collected()  # looked at before the source, or a file slips by
            for batch in self._source.pending():
                try:
                    wait = self._delivery.attempt(batch, self._time_left)
                except BaseException:
                    self._source.give_back(batch)
                    raise
                if wait is None:
                    self._source.done(batch)
                    continue
                self._source.give_back(batch)
                if not self._pause(wait):
                    self._keep_books()
                    return
                break
            else:
                if last and self._empty():
                    return
                closing = self._closing.by is not None
                self._source.wait(self._closing.left(CLOSING_POLL if closing else self._settings.flush_interval))
                if self._closing.left(FOREVER) <= 0:
                    return

    def _time_left(self) -> float:
        return self._closing.left(self._settings.timeout)

    def _pause(self, wait: Wait) -> bool:
        """Wait before the next attempt, less when flush() or close() asks for it; False once there is no time."""
        until = time.monotonic() + wait.seconds
        while (rest := until - time.monotonic()) > 0:
            if rest > self._closing.left(FOREVER):
                return False
            self._keep_books()
            if self._nudge.wait(min(rest, BOOKS_EVERY)) and not wait.asked_for:
                until = min(until, time.monotonic() + SOONEST)
        return self._closing.left(FOREVER) > 0


class Spooler:
    """Writes logged records to the spool, every tenth of a second or sooner, and wakes the sender."""

    def __init__(self, settings: Settings, intake: Intake, spool: Spool, closing: Closing, nudge: Wakeup) -> None:
        self._flush_interval = settings.flush_interval
        self._interval = min(settings.flush_interval, SPOOL_INTERVAL)
        self._finished_at = 0.0
        self._intake = intake
        self._spool = spool
        self._closing = closing
        self._nudge = nudge
        self._reports_at = 0.0

    def run(self) -> None:
        """Write until closed."""
        while True:
            closing = self._closing.by is not None  # looked at before collecting, so that nothing slips through
            self.collect()
            if closing:
                self._finish_file()
                return
            self._intake.wait(
                self._flush_interval * TIMEOUT_WITH_BROKEN_SPOOL if self._spool.broken else self._interval
            )

    def collect(self) -> None:
        """Write what waits now."""
        for _ in range(self._intake.batches()):
            batch = self._intake.drain(self._reports_due())
            if batch is None:
                break
            if not self._spool.write(batch):
                self._intake.put_back(batch)
                self._nudge.set()
                return
            self._intake.ledger.done(chain.from_iterable(batch.numbers))
            if batch.markers:
                self._finish_file()
            for marker in batch.markers:
                marker.passed = True
        if self._spool.hungry and time.monotonic() - self._finished_at >= self._flush_interval:
            self._finish_file()

    def _reports_due(self) -> bool:
        now = time.monotonic()
        due = self._spool.hungry or self._closing.by is not None or now - self._reports_at >= REPORTS_EVERY
        self._reports_at = now if due else self._reports_at
        return due

    def _finish_file(self) -> None:
        self._finished_at = time.monotonic()
        if self._spool.rotate():
            self._nudge.set()
