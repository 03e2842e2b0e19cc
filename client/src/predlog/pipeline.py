"""One process's road from the queue to the service: what log() fills, and the threads that empty it."""

from __future__ import annotations

import threading
import time

from predlog import lifecycle
from predlog.batch import Marker
from predlog.batch_source import Memory, Source, Spooled
from predlog.books import Books
from predlog.connecting import Route
from predlog.counts import Stats, Tally
from predlog.delivery import Delivery
from predlog.direct import Direct, DirectIntake
from predlog.dropped import EXIT, Dropped
from predlog.ledger import Ledger
from predlog.record_queue import Intake
from predlog.sender import Closing, Sender, Spooler
from predlog.settings import Settings
from predlog.spool import Spool
from predlog.threads import START_AGAIN, Threads, poll
from predlog.throttled_log import Trouble
from predlog.transport import Transport
from predlog.wakeup import Wakeup

GRACE = 0.1  # seconds a thread has to end after its time is up


class Pipeline:
    """Queue, spool, threads and connection. A forked child makes a new one and disowns its parent's."""

    def __init__(self, settings: Settings, url: str, api_key: str | None) -> None:
        self.exit_timeout = settings.exit_timeout
        self._trouble = Trouble(settings.on_error)
        self._dropped = Dropped()
        self._tally = Tally()
        self._closing = Closing()
        self._nudge = Wakeup()
        self._transport = Transport(url, api_key, settings.timeout, Route.of(settings))
        ledger = Ledger(settings.ledger_dir, url, api_key, settings.batch_size)
        sync = settings.mode == "sync"
        kind = DirectIntake if sync else Intake
        self.intake = kind(settings, self._dropped, self._trouble, ledger, self._open if sync else self.start)
        self._source: Source = Memory(self.intake)
        self._spool: Spool | None = None
        self._spooler: Spooler | None = None
        if settings.spool_dir is not None:
            self._spool = Spool(settings, url, self._dropped, self._trouble)
            self._source = Spooled(self._spool, Memory(self.intake), self._dropped, self._tally, self._nudge)
            self._spooler = Spooler(settings, self.intake, self._spool, self._closing, self._nudge)
        self._books = Books(ledger, self._dropped, self._source, self._trouble, self._closing)
        delivery = Delivery(settings, self._transport, self._tally, self._trouble)
        self._sender = Sender(
            settings,
            self._source,
            delivery,
            self._closing,
            self._nudge,
            self._collected,
            self._nothing_left,
            self._books.keep,
        )
        self._direct: Direct | None = None
        if isinstance(self.intake, DirectIntake):
            self._direct = direct = Direct(self._source, delivery, self._dropped, self._books.keep)
            self.intake.send = lambda: direct.send(settings.timeout)
        self._threads = Threads(self._trouble)
        self._starting = threading.Lock()  # never waited for
        self._start_again_at = 0.0
        self._begun = False
        self._disowned = False

    def _open(self) -> None:
        """In mode sync: begin without threads."""
        if self._begun or self._closing.by is not None or not self._starting.acquire(blocking=False):
            return
        try:
            lifecycle.started(self)
            self.intake.arm()
            self._begun = True
        finally:
            self._starting.release()

    def start(self) -> None:
        """Start the threads, unless they run; if the system refuses one, the records wait and it is tried later."""
        if not self._starting.acquire(blocking=False):
            return
        try:
            if self.intake.running[0] or time.monotonic() < self._start_again_at or self._closing.by is not None:
                return
            lifecycle.started(self)
            # The threads and the locks they wait for are made together, and no sooner than they are needed: gevent
            # and eventlet may replace both kinds until then.
            if not self._threads:
                self.intake.arm()
                self._nudge.arm()
                self._threads.begin("sender", self._send)
            if self._spooler is not None and len(self._threads) == 1:
                self._threads.begin("spooler", self._spooler.run)
            self.intake.running[0] = 1
        except RuntimeError:  # no more threads, or the interpreter is shutting down: close() sends what waits
            self._start_again_at = time.monotonic() + START_AGAIN
        finally:
            self._starting.release()

    def flush(self, timeout: float) -> bool:
        """Whether all that was logged so far was delivered or dropped within that many seconds."""
        if self._direct is not None:
            return self._direct.send(timeout, at_once=True)
        deadline = time.monotonic() + timeout
        marker = Marker()
        self.intake.queue.append(marker)
        self.start()
        self.intake.wake()
        self._nudge.set()
        poll(lambda: marker.passed or self._ended(), deadline)
        if not (marker.passed or (self._ended() and not self._source.records())):
            return False
        spool = self._spool
        if spool is None:
            return True
        mine = set(spool.outstanding())
        poll(lambda: self._ended() or not mine & spool.outstanding().keys(), deadline)
        return not mine & spool.outstanding().keys()

    def begin_close(self, timeout: float) -> None:
        """Take nothing more, and send the rest within that many seconds."""
        self._closing.begin(timeout)
        self.intake.close()
        self._nudge.set()

    def finish_close(self) -> bool:
        """Wait for what begin_close() began; whether every record was sent or is in the spool."""
        if self.intake.running[0]:
            deadline = time.monotonic() + max(0.0, self._closing.left(threading.TIMEOUT_MAX)) + GRACE
            poll(lambda: not self._threads.alive(), deadline)
        elif self._direct is not None:
            self._direct.alone(self._closing.left(threading.TIMEOUT_MAX), self._finish)
        else:
            self._finish()
        left = self._source.records()
        if left and self._threads.alive():
            self._warn_of(left)
        return not (self._source.records() or self._dropped.totals[EXIT])

    def _finish(self) -> None:
        """Without threads, as in mode sync, or if the first call came while the interpreter was shutting down."""
        if self._source.waiting() or len(self._dropped):
            if self._spooler is not None:
                self._spooler.run()
            self._send()
        else:
            self.intake.ledger.close()
            self._transport.close()
            lifecycle.stopped(self)

    def disown(self) -> None:
        """In a forked child: close what belongs to the parent, whose threads may go on here as greenlets of gevent."""
        self._disowned = True
        self._closing.begin(0.0)
        self.intake.queue.clear()
        self._dropped.forget()
        self._transport.disown()
        self._books.disown()
        if self._spool is not None:
            self._spool.disown()

    @property
    def unused(self) -> bool:
        """Whether nothing was logged in this process, and nothing is sent for it."""
        return not self.intake.running[0] and self._closing.by is None

    def take_over(self) -> bool:
        """Report what processes that have ended lost; whether there was such a thing."""
        return self._books.take_over()

    def stats(self) -> Stats:
        """What became of the records."""
        spooled = sum(self._spool.outstanding().values()) if self._spool is not None else 0
        return Stats(
            sent=self._tally.sent,
            duplicates=self._tally.duplicates,
            summarized=self._tally.summarized,
            queued=self._source.records(),
            spooled=spooled,
            torn=self._tally.torn,
            withheld=self.intake.withheld,
            dropped=dict(self._dropped.totals),
        )

    def _send(self) -> None:
        self._sender.run()
        if self._disowned:
            return
        left = self._give_up()
        self._books.close()
        if left:
            self._dropped.unreported(EXIT, left)
            self._warn_of(left)
        if untold := self._dropped.waiting():
            self._trouble.warn("untold", "Predlog: closed before %d dropped records could be reported", untold)
        self._transport.close()
        lifecycle.stopped(self)

    def _ended(self) -> bool:
        """Whether the pipeline is closed, and no thread will send any more."""
        return self._closing.by is not None and not self._threads.alive()

    def _nothing_left(self) -> bool:
        """Asked by the closed sender when its source is empty; what it lost itself goes to the spool here."""
        if len(self._dropped) and self._spooler is not None:
            self._spooler.run()
            return False
        return not (self._source.waiting() or len(self._dropped))

    def _give_up(self) -> int:
        """Records that nobody will send now; with a spool they are there, and none is left."""
        self._source.let_go()
        if self._spooler is not None and self._collected():
            self._spooler.run()
        left = self.intake.records
        self.intake.queue.clear()
        return left

    def _collected(self) -> bool:
        """Whether the spooler, if there is one, has written its last batch."""
        return not self._threads.alive(after=1)

    def _warn_of(self, left: int) -> None:
        self._trouble.warn("exit", "Predlog: closed with %d records in memory not acknowledged", left)
