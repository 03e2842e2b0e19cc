"""The sources of batches for the sending thread: the queue itself, or the spool."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Protocol

from predlog.batch import Batch
from predlog.counts import Tally
from predlog.dropped import Report
from predlog.record_queue import Intake
from predlog.spool import Spool
from predlog.wakeup import Wakeup


class Source(Protocol):
    """Hands out batches; each is ended by done(), or given back to be tried again."""

    def pending(self) -> Iterator[Batch]:
        """Return the waiting batches, oldest first."""

    def done(self, batch: Batch) -> None:
        """Call this when the batch is done: stored, or dropped and counted."""

    def give_back(self, batch: Batch) -> None:
        """The batch could not be sent for now."""

    def wait(self, seconds: float) -> None:
        """Sleep until there may be something to send."""

    def waiting(self) -> int:
        """Records in memory, and the markers of flush() among them."""

    def records(self) -> int:
        """Records in memory."""

    def reports(self) -> list[Report]:
        """The number of reports of dropped records that wait."""

    def let_go(self) -> None:
        """Put the batch in hand back on the queue."""


class Memory:
    """Batches straight from the queue; the one being tried stays in hand."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._held: Batch | None = None

    def pending(self) -> Iterator[Batch]:
        """The batch in hand, then the records of the queue."""
        if self._held is not None:
            yield self._held
        for _ in range(self._intake.batches()):
            self._held = self._intake.drain()
            if self._held is None:
                return
            yield self._held

    def done(self, batch: Batch) -> None:
        """Forget the batch."""
        self._held = None
        self._intake.ledger.done(chain.from_iterable(batch.numbers))
        for marker in batch.markers:
            marker.passed = True

    def give_back(self, batch: Batch) -> None:
        """It stays in hand."""

    def wait(self, seconds: float) -> None:
        """Sleep until a batch is full."""
        self._intake.wait(seconds)

    def waiting(self) -> int:
        """Records and markers on the queue, and records in hand."""
        held = self._held
        return len(self._intake.queue) + self._intake.beside + (held.records if held is not None else 0)

    def records(self) -> int:
        """Records on the queue and in hand."""
        held = self._held
        return self._intake.records + (held.records if held is not None else 0)

    def reports(self) -> list[Report]:
        """Those of the batch in hand."""
        held = self._held
        return [] if held is None else list(held.reports)

    def let_go(self) -> None:
        """Put the batch in hand back on the queue."""
        held, self._held = self._held, None
        if held is not None:
            self._intake.put_back(held)


class Spooled:
    """Batches from the files of this and other processes; from memory only while the spool cannot be written."""

    def __init__(self, spool: Spool, memory: Memory, tally: Tally, nudge: Wakeup) -> None:
        self._spool = spool
        self._memory = memory
        self._tally = tally
        self._nudge = nudge

    def pending(self) -> Iterator[Batch]:
        """The files nobody else has, oldest first."""
        while (segment := self._spool.claim()) is not None:
            yield Batch(segment.lines, reports=segment.reports, youngest_ns=segment.written_ns, segment=segment)
        self._spool.hungry = True
        if self._spool.broken:
            yield from self._memory.pending()

    def done(self, batch: Batch) -> None:
        """Delete the file."""
        if batch.segment is None:
            self._memory.done(batch)
        else:
            self._tally.torn += batch.segment.torn
            self._spool.remove(batch.segment)

    def give_back(self, batch: Batch) -> None:
        """Let go of the file: another process may have more luck, and the spool may need its room."""
        if batch.segment is not None:
            self._spool.release(batch.segment)
        else:
            self._memory.let_go()  # on the queue the spooler finds it, once it can write again

    def wait(self, seconds: float) -> None:
        """Sleep until a file is finished here; those of other processes are looked for now and then."""
        self._nudge.wait(seconds)

    def waiting(self) -> int:
        """Records not on disk, and markers."""
        return self._memory.waiting()

    def records(self) -> int:
        """Records not on disk."""
        return self._memory.records()

    def reports(self) -> list[Report]:
        """Those not on disk."""
        return self._memory.reports()

    def let_go(self) -> None:
        """Put the batch in hand back on the queue."""
        self._memory.let_go()
