"""The bounded queue between the caller's thread and ours."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from itertools import chain
from typing import Union

from predlog import lifecycle
from predlog.batch import Batch, Marker, Numbers
from predlog.context import Enrich
from predlog.dropped import CLOSED, QUEUE_FULL, REJECTED, Dropped
from predlog.forks import mine, new_mark
from predlog.ledger import Ledger, Marks
from predlog.preparation import Preparation
from predlog.record import METADATA, SUCCESS, InvalidRecord, Record, encode, made_at
from predlog.sampling import Sampling, Summaries
from predlog.settings import Settings
from predlog.text import printable
from predlog.throttled_log import Trouble
from predlog.wakeup import Wakeup

ODD_NAMED = 3  # values of one record that a warning names

Encoded = tuple[Numbers, bytes]  # the numbers of records and their line, put back
Item = Union[Record, Encoded, Marker]


class Intake:
    """Takes records without a lock: appending to a deque is atomic, and the bound is a glance at its length.

    The last tenth of the room is kept for failed predictions, which matter most just when much goes wrong at once.
    """

    def __init__(
        self, settings: Settings, dropped: Dropped, trouble: Trouble, ledger: Ledger, start: Callable[[], None]
    ) -> None:
        self.queue: deque[Item] = deque()
        self.ledger = ledger
        self.marks: Marks = ledger.marks
        self.mask = ledger.mask
        self.codes = ledger.codes
        self.running = new_mark()  # whether the threads run, in this process
        self.withheld = 0
        self._preparation = Preparation(settings)
        self.heir: Intake | None = None  # in a forked child: the one to use instead
        self._room = settings.queue_size
        self._room_for_successes = settings.queue_size - settings.queue_size // 10
        self._batch_size = settings.batch_size
        self._batch_bytes = settings.batch_bytes
        self._sampling = Sampling(settings) if settings.sample < 1 else None
        # How many records the summaries of one batch may count, those that were put back included. Each has a mark in
        # the ledger until the batch is delivered; a quarter of the marks leaves enough for the lines and for the queue.
        self._max_summarized = ledger.size // 4
        batch = min(settings.batch_size, self._room_for_successes)
        if self._sampling is not None:  # most need no room in a batch, and the more a summary counts the less it costs
            batch = max(batch, min(self._room_for_successes // 2, self._max_summarized))
        self.short = batch - 1  # if no more records wait, the collecting thread may sleep on
        # If fewer records wait than `quick`, log() only marks and appends. While the collecting thread sleeps, that is
        # `short`, because a full batch must wake it. While it is awake, that is half of the ledger's marks at most,
        # because beyond it a record might find the mark of an older one.
        self.quick = self.short
        self._quick_awake = min(self._room_for_successes, ledger.size // 2)
        self._overflowed = False
        self._enrich: Enrich | None = None
        self._dropped = dropped
        self._trouble = trouble
        self._start = start
        self._asleep = False
        self._closed = False
        self._wake = Wakeup()

    def put(self, record: Record) -> None:
        """Queue the record, or count it as dropped; this never waits.

        Client.log() and Call.__exit__() have the usual case in themselves: a call of a function would cost as much.
        """
        if self._enrich is not None:
            record = (*record[:METADATA], self._enrich(record[METADATA]), *record[METADATA + 1 :])
        queue = self.queue
        waiting = len(queue)
        if not self.running[0] and self._passed_on(record):
            return
        if waiting >= self._room_for_successes and (waiting >= self._room or record[SUCCESS] is True):
            self._drop(record)
            return
        place, marks = record[1] & self.mask, self.marks
        try:
            if marks[place]:
                self.ledger.mark(record[1], record[2])
            else:
                marks[place] = self.codes[record[2]]
        except (KeyError, TypeError, ValueError):  # a model's first record, or closed in this moment
            self.ledger.mark(record[1], record[2])
        queue.append(record)
        if waiting >= self.short and self._asleep:
            self.wake()

    def enrich_by(self, enrich: Enrich | None) -> None:
        """Have the metadata of each record completed in its caller's thread."""
        self._enrich = enrich
        self._be_quick_below(self.short)

    def arm(self) -> None:
        """Prepare for the thread that will wait here."""
        self.ledger.open()
        self.marks = self.ledger.marks
        self._wake.arm()

    def wake(self) -> None:
        """Have what waits collected now."""
        self._asleep = False  # first: a signal handler that logs in between must not come here again
        self._wake.set()

    def close(self) -> None:
        """Take nothing more; what waits can still be drained."""
        self._closed = True
        self._room = self._room_for_successes = self.short = self.quick = -1
        self.wake()

    def wait(self, seconds: float) -> None:
        """Sleep until a batch is full, or that long."""
        self._asleep = True
        self._be_quick_below(self.short)
        if len(self.queue) <= self.short and not self._closed:
            self._overflowed = False
            self._wake.wait(seconds)
        self._asleep = False
        self._be_quick_below(self.short if self._overflowed else self._quick_awake)

    @property
    def beside(self) -> int:
        """Records that wait in summaries which were put back, beside one for each of these."""
        beside = 0
        if self._sampling is not None:
            for item in list(self.queue):
                if isinstance(item, Marker):
                    continue
                if len(item) != 2:  # what was put back comes first
                    break
                beside += len(item[0]) - 1
        return beside

    @property
    def records(self) -> int:
        """Records that wait, in summaries too, without the markers of flush() among them."""
        return sum(not isinstance(item, Marker) for item in list(self.queue)) + self.beside

    def batches(self) -> int:
        """Return how many drains empty the present queue except for a rest; at least one, for the reports."""
        return len(self.queue) // self._batch_size + 1

    def drain(self, with_reports: bool = True) -> Batch | None:
        """Return the next records, encoded, with reports of dropped ones; None if there are neither."""
        taken: list[Item] = []
        try:
            batch = self._batch(taken)
        except BaseException:  # in mode sync that of a signal handler, too
            self.queue.extendleft(reversed(taken))
            raise
        if with_reports:
            batch.reports = self._dropped.take()
        return batch if batch.lines or batch.reports or batch.markers else None

    def put_back(self, batch: Batch) -> None:
        """Return a batch that could not be kept elsewhere to the front of the queue."""
        left = batch.left()
        self.ledger.done(chain.from_iterable(batch.numbers[: len(batch.numbers) - len(left)]))
        self.queue.extendleft(reversed([*left, *batch.markers]))
        self._dropped.give_back(batch.reports)

    def _batch(self, taken: list[Item]) -> Batch:
        """The next records, encoded; `taken` gets what was taken off the queue and is in no count."""
        batch = Batch(dropped=self._dropped)
        size = counted = 0
        summaries = None if self._sampling is None else Summaries(self._sampling)
        room = self._batch_size
        while len(batch.lines) < room and size < self._batch_bytes and counted < self._max_summarized:
            try:
                item = self.queue.popleft()
            except IndexError:
                break
            taken.append(item)
            if isinstance(item, Marker):
                batch.markers.append(item)
                continue
            if len(item) == 2:
                numbers, line = item
                counted += len(numbers) - 1
                batch.youngest_ns = time.time_ns()
            else:
                numbers = (item[1],)
                encoded = self._encode(item, summaries)
                if encoded is None:
                    taken.pop()
                    self.ledger.done(numbers)
                    continue
                batch.youngest_ns = item[0]
                if summaries is not None and not encoded:
                    counted += 1
                    room = self._batch_size - len(summaries)
                    continue
                line = encoded
            batch.numbers.append(numbers)
            batch.lines.append(line)
            size += len(line)
        for numbers, line in () if summaries is None else summaries.lines():
            batch.numbers.append(numbers)
            batch.lines.append(line)
        return batch

    def _be_quick_below(self, waiting: int) -> None:
        self.quick = -1 if self._enrich is not None else waiting
        if self._closed:
            self.quick = -1  # looked at after it was set, since another thread may just close

    def _passed_on(self, record: Record) -> bool:
        """Start the threads; in a child that was forked without a hook, give the record to its own intake instead."""
        if not mine[0]:
            lifecycle.forked()
        if self.heir is not None:
            self.heir.put(record)
            return True
        self._start()
        return False

    def _encode(self, record: Record, summaries: Summaries | None) -> bytes | None:
        """The line of a record: an empty one if it is counted in a summary, None if it is not sent at all."""
        odd: list[str] = []
        try:
            prepared = self._preparation.record(record)
            if prepared is None:
                self.withheld += 1
                return None
            if summaries is not None and summaries.take(prepared, record):
                return b""
            line = encode(prepared, odd)
            for value in odd[:ODD_NAMED]:
                text = "Predlog: a value that JSON has no word for was replaced: %s"
                self._trouble.warn(f"odd {value}", text, printable(value)[:200])
            return line
        except InvalidRecord as error:
            why = str(error)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a value's own methods may raise even SystemExit
            why = f"its encoding raised {type(error).__name__}"
        # Counted last, because drain() puts the record back if the warning raises KeyboardInterrupt.
        self._trouble.warn(f"invalid {why}", "Predlog: a record is not valid and counted as rejected: %s", why)
        self._count(record, REJECTED)
        return None

    def _drop(self, record: Record) -> None:
        if self._closed:
            self._dropped.unreported(CLOSED)
        else:
            if not self._overflowed:  # the numbers go on, so a mark may be in use when it is come to again
                self._overflowed = True
                self._be_quick_below(self.short)
            self._count(record, QUEUE_FULL)

    def _count(self, record: Record, reason: str) -> None:
        self._dropped.add(record[2], made_at(record), reason)


class Nowhere(Intake):
    """The intake of a client that is disabled."""

    def __init__(self) -> None:
        self.queue = deque()
        self.quick = -1
        self._enrich = None

    def enrich_by(self, enrich: Enrich | None) -> None:
        """Keep it for those that do something with a record."""
        self._enrich = enrich

    def put(self, record: Record | None) -> None:
        """Forget the record."""
