"""Send exports: limited in number and time, and ended when the service stops."""

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
    """The limits of a worker's exports: how many at once, and how many seconds each."""

    def __init__(self, number: int, timeout_s: float, is_stopping: Callable[[], bool]) -> None:
        self._free = threading.BoundedSemaphore(number)
        self.timeout_s = timeout_s
        self.is_stopping = is_stopping

    def begin(self) -> None:
        """Take a permit. Answers 503 with Retry-After if none is free."""
        if not self._free.acquire(blocking=False):
            overloaded("exports", "As many exports as the service makes at once are under way; send this one again.")

    def end(self) -> None:
        """Give the permit back."""
        self._free.release()


class Cut(Exception):
    """The export was cut off, for this reason."""


class Stream:
    """The bytes of an export; its permit is given back at their end, or when the client has stopped reading."""

    def __init__(self, parts: Iterator[bytes], blocks: Blocks, exports: Exports) -> None:
        self._parts, self._blocks, self._exports = parts, blocks, exports
        self._is_over = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            return next(self._parts)
        except (Cut, StorageUnavailable) as reason:
            # Not raised, because the server would end the answer as if it were whole all the same.
            log.warning("export cut", reason=str(reason))
            self.close()
            raise StopIteration from None
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Called by the server at the end of every answer, cut or not."""
        if not self._is_over:
            self._is_over = True
            try:
                self._blocks.close()
            finally:
                self._exports.end()


def timed(blocks: Iterator[Block], exports: Exports) -> Iterator[Block]:
    """Yield the same blocks. Raises Cut at the timeout, or when the service stops."""
    until = time.monotonic() + exports.timeout_s
    for block in blocks:
        yield block
        if time.monotonic() > until:
            raise Cut("it took longer than EXPORT_TIMEOUT_S")
        if exports.is_stopping():
            raise Cut("the service stops")
