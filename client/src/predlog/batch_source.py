"""The sources of batches for the sending thread: the queue itself, or the spool."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Protocol

from predlog.batch import Batch
from predlog.counts import Tally
from predlog.dropped import MAX_KEYS, Dropped, Report
from predlog.record_queue import Intake
from predlog.spool import Spool
from predlog.spool_file import Segment
from predlog.wakeup import Wakeup


class Source(Protocol):
    """Hands out batches; each is ended by done(), or given back to be tried again."""

    def pending(self) -> Iterator[Batch]:
        """Return the waiting batches, oldest first."""

    def done(self, batch: Batch) -> None:
        """Call this when the batch is done: stored or dropped."""

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
        """What is left of it stays in hand; the rest must not be counted as dropped if the process is killed now."""
        answered = len(batch.numbers) - len(batch.lines)
        self._intake.ledger.done(chain.from_iterable(batch.numbers[:answered]))
        del batch.numbers[:answered]

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

    def __init__(self, spool: Spool, memory: Memory, dropped: Dropped, tally: Tally, nudge: Wakeup) -> None:
        self._spool = spool
        self._memory = memory
        self._dropped = dropped
        self._tally = tally
        self._nudge = nudge

    def pending(self) -> Iterator[Batch]:
        """The files nobody else has, oldest first."""
        while (segment := self._spool.claim()) is not None:
            lines, reports = list(segment.lines), list(segment.reports)
            yield Batch(lines, reports=reports, youngest_ns=segment.written_ns, segment=segment)
        self._spool.hungry = True
        if self._spool.broken:
            yield from self._memory.pending()

    def done(self, batch: Batch) -> None:
        """Delete the file, or leave in it what was dropped of it."""
        if batch.segment is None:
            self._memory.done(batch)
        else:
            self._settle(batch, batch.segment)

    def give_back(self, batch: Batch) -> None:
        """Let go of the file: another process may have more luck, and the spool may need its room."""
        if batch.segment is not None:
            self._settle(batch, batch.segment)
        else:
            self._memory.let_go()  # on the queue the spooler finds it, once it can write again

    def _settle(self, batch: Batch, segment: Segment) -> None:
        """Leave in the file what is still to be sent, and reports in place of the records that were dropped.

        The file changes in one step and before the reports are sent: a process that is killed at any moment leaves each
        record either as a line, counted nowhere, or in a report, which has its identifier.
        """
        dropped = batch.dropped.take(MAX_KEYS)
        left = batch.lines or batch.reports
        if left and (len(batch.lines), len(batch.reports)) == (len(segment.lines), len(segment.reports)):
            return self._spool.release(segment)
        if not left and not dropped:
            self._spool.remove(segment)
        elif not self._spool.replace(segment, batch.lines, [*batch.reports, *dropped]):
            if left:  # the next attempt begins with the file as it is, so this one must count nothing
                return self._spool.release(segment)
            self._spool.remove(segment)
            self._dropped.give_back(dropped)  # a kill may take them, as all counts in memory, until they are noted
        self._tally.torn += segment.torn
        for reason, count in batch.dropped.totals.items():
            self._dropped.unreported(reason, count)

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
