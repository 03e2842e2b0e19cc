"""How an export is sent: as long as it may take, while the service runs, and as many at once as there may be."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import structlog

from app.application.export import Block, Blocks
from app.domain.errors import StorageUnavailable
from app.presentation.errors import overloaded

log = structlog.get_logger("predlog.export")

EXTENSION = "predlog.exports"


class Exports:
    """How many exports a worker makes at once, how long one may take, and whether the service is about to stop."""

    def __init__(self, number: int, timeout_s: float, is_stopping: Callable[[], bool]) -> None:
        self._free = threading.BoundedSemaphore(number)
        self.timeout_s = timeout_s
        self.is_stopping = is_stopping

    def begin(self) -> None:
        """Answers 503 with Retry-After if as many as there may be are under way."""
        if not self._free.acquire(blocking=False):
            overloaded("exports", "As many exports as the service makes at once are under way; send this one again.")

    def end(self) -> None:
        """Let another one begin."""
        self._free.release()


class Cut(Exception):
    """The export ends before its end, for this reason."""


class Stream:
    """The bytes of an export; its permit is given back when they have ended, or when nobody reads them any more."""

    def __init__(self, parts: Iterator[bytes], blocks: Blocks, exports: Exports) -> None:
        self._parts, self._blocks, self._exports = parts, blocks, exports
        self._is_over = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            return next(self._parts)
        except (Cut, StorageUnavailable) as reason:
            # Raised, it would do no more: the server ends the answer as if it were whole.
            log.warning("export cut", reason=str(reason))
            self.close()
            raise StopIteration from None
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """The server calls this in the end, whatever came of it."""
        if not self._is_over:
            self._is_over = True
            try:
                self._blocks.close()
            finally:
                self._exports.end()


def timed(blocks: Iterator[Block], exports: Exports) -> Iterator[Block]:
    """The same blocks. Raises Cut when the time is over, or the service stops."""
    until = time.monotonic() + exports.timeout_s
    for block in blocks:
        yield block
        if time.monotonic() > until:
            raise Cut("it took longer than EXPORT_TIMEOUT_S")
        if exports.is_stopping():
            raise Cut("the service stops")
