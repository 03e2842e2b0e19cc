"""The counts that the client leaves for the process after it, and reports for the processes before it."""

from __future__ import annotations

import time

from predlog.batch_source import Source
from predlog.dropped import Dropped
from predlog.ledger import Ledger
from predlog.sender import Closing
from predlog.text import printable
from predlog.throttled_log import Trouble

ORPHANS_EVERY = 10.0  # seconds between looks for the counts of processes that have ended


class Books:
    """Keeps the ledger of one pipeline."""

    def __init__(self, ledger: Ledger, dropped: Dropped, source: Source, trouble: Trouble, closing: Closing) -> None:
        self._ledger = ledger
        self._dropped = dropped
        self._source = source
        self._trouble = trouble
        self._closing = closing
        self._orphans_at = 0.0
        self._disowned = False

    def keep(self) -> None:
        """Note what was dropped, and look for what others left behind."""
        if self._disowned:
            return
        self._owe()
        now = time.monotonic()
        if now >= self._orphans_at or self._closing.by is not None:
            self._orphans_at = now + ORPHANS_EVERY
            self.take_over()

    def take_over(self) -> bool:
        """Report what processes that have ended lost; whether there was such a thing."""
        found = False
        for time_ns, lost in self._ledger.orphans():
            self._ledger.open()  # this process may be the next to end before it has told
            for name, count in lost.items():
                found = True
                self._dropped.take_over(name, time_ns, count)
                text = "Predlog: a process ended with %d records of %s in memory; they are reported as dropped"
                self._trouble.warn(f"died {name}", text, count, printable(name))
            self._owe()
        return found

    def close(self) -> None:
        """Note for the last time what was dropped."""
        self._owe()
        self._ledger.close()

    def disown(self) -> None:
        """In a forked child: the counts are the parent's."""
        self._disowned = True
        self._ledger.disown()

    def _owe(self) -> None:
        dropped = self._dropped.by_model()
        for report in self._source.reports():
            dropped[report["model_name"]] += report["count"]
        self._ledger.owe(dropped, time.time_ns())
