"""Send exports: limited in number and time, ended when the service stops, and never silent for long."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from itertools import chain

import structlog

from app.application.export import Block, Blocks
from app.domain.errors import StorageUnavailable
from app.presentation.errors import overloaded

log = structlog.get_logger("predlog.export")

EXTENSION = "predlog.exports"
# Proxies, clients and the service's own watch close a connection that was silent for a minute.
MAX_SILENCE_S = 30.0
# The server asks for the next piece when the client has read some of those before.
PIECE_BYTES = 16 * 1024
# The client of an export that others wait for must read so fast, on average over the time that the service waits for
# the client. It has some seconds to begin with.
MIN_BYTES_A_SECOND = 64 * 1024
GRACE_S = 10.0


class Cut(Exception):
    """The export was cut off, for this reason."""


class Exports:
    """The limits of a worker's exports: how many at once, and how many seconds each."""

    def __init__(self, number: int, timeout_s: float, is_stopping: Callable[[], bool]) -> None:
        self._free = threading.BoundedSemaphore(number)
        self._streams: set[Stream] = set()
        self.timeout_s = timeout_s
        self.is_stopping = is_stopping

    def begin(self) -> None:
        """Take a permit, if need be that of an export whose client reads too slowly.

        Answers 503 with Retry-After if there is none.
        """
        if self._free.acquire(blocking=False):
            return
        slow = next((stream for stream in self._streams.copy() if stream.cut_if_slow()), None)
        if slow is None or not self._free.acquire(blocking=False):
            overloaded("exports", "As many exports as the service makes at once are under way; send this one again.")

    def add(self, stream: Stream) -> None:
        """Remember an export that is being sent, so that another one can cut it if it is slow."""
        self._streams.add(stream)

    def end(self, stream: Stream | None = None) -> None:
        """Give the permit back; `stream` is the export that had it, if it was being sent."""
        if stream:
            self._streams.discard(stream)
        self._free.release()


class Stream:
    """The bytes of an export; its permit is given back at their end, or when the client has stopped reading."""

    def __init__(self, parts: Iterator[bytes], blocks: Blocks, exports: Exports) -> None:
        self._pieces: Iterator[bytes] = chain.from_iterable(map(_pieces, parts))
        self._blocks, self._exports = blocks, exports
        self._lock = threading.RLock()  # held while a piece is made
        self._is_over = False
        self._sent, self._waited_s, self._waits_since = 0, 0.0, time.monotonic()
        exports.add(self)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        with self._lock:
            self._waited_s += time.monotonic() - self._waits_since
            try:
                if self._is_over:
                    raise StopIteration
                piece = next(self._pieces)
            except (Cut, StorageUnavailable) as reason:
                # Not raised, because the server would end the answer as if it were whole all the same.
                self._cut(str(reason))
                raise StopIteration from None
            except BaseException:
                self.close()
                raise
            self._sent += len(piece)
            self._waits_since = time.monotonic()
            return piece

    def cut_if_slow(self) -> bool:
        """Cut the export off if its client reads too slowly; return whether it did."""
        if not self._lock.acquire(blocking=False):  # the client waits for the service, not the service for the client
            return False
        try:
            waited_s = self._waited_s + time.monotonic() - self._waits_since - GRACE_S
            if self._is_over or self._sent >= MIN_BYTES_A_SECOND * waited_s:
                return False
            self._cut("its client reads slowly, and another one waits")
            return True
        finally:
            self._lock.release()

    def close(self) -> None:
        """Called by the server at the end of every answer, cut or not."""
        with self._lock:
            if not self._is_over:
                self._is_over = True
                self._pieces = iter(())
                try:
                    self._blocks.close()
                finally:
                    self._exports.end(self)

    def _cut(self, reason: str) -> None:
        log.warning("export cut", reason=reason)
        self.close()


def timed(blocks: Iterator[Block], exports: Exports) -> Iterator[Block]:
    """Yield the blocks that have lines, and one without lines if there was none for MAX_SILENCE_S.

    Raises Cut at the timeout, or when the service stops.
    """
    yielded = time.monotonic()
    until = yielded + exports.timeout_s
    for block in blocks:
        if block.lines or time.monotonic() - yielded > MAX_SILENCE_S:
            yield block
            yielded = time.monotonic()
        if time.monotonic() > until:
            raise Cut("it took longer than EXPORT_TIMEOUT_S")
        if exports.is_stopping():
            raise Cut("the service stops")


def _pieces(part: bytes) -> Iterator[bytes]:
    """Cut a part into pieces that end with no line end, because an export that ends with one is whole."""
    at = 0
    while piece := part[at : at + PIECE_BYTES]:
        piece = piece.rstrip(b"\n") or piece
        yield piece
        at += len(piece)
