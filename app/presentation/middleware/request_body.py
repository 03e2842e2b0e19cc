"""Read and inflate a request's body up to a limit, so that a gzip bomb is stopped while it inflates.

A request holds no permit while it waits for a slow body, and waits for a limited time.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from typing import Any, NamedTuple, NoReturn

from flask import Request
from werkzeug.wsgi import get_input_stream

from app.presentation.errors import overloaded, problem
from app.presentation.middleware.concurrency import PERMIT, Permit

FIRST = 64
CHUNK = 64 * 1024
# The bytes that zlib gets at a time: zlib copies the rest of them for each gzip member that ends in them.
SLICE = 4 * 1024
GZIP = 16 + zlib.MAX_WBITS
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# In the environment of a request whose body was read to its end.
WAS_READ = "predlog.body_was_read"


class Body(NamedTuple):
    """A body as it was before Content-Encoding, and how many bytes were sent for it."""

    content: bytes
    sent: int


def read_body(request: Request, limit: int) -> Body:
    """Read the body, inflated, without a byte order mark at its beginning.

    Answers 408 if the body takes too long, 413 beyond `limit` bytes, 415 for another encoding than gzip, 400 if it is
    not gzip after all or not complete, 503 if too many large bodies are held.
    """
    permit: Permit | None = request.environ.get(PERMIT)
    compressed = is_gzip(request)
    wire = _Wire(request.environ, request.content_length, limit, permit.timeout_s if permit else None)
    parts, size = [], 0
    with permit.outside() if permit else nullcontext():
        for part in _inflated(wire) if compressed else wire:
            size += len(part)
            if size > limit:
                problem(413, f"The body must be at most {limit} bytes, inflated.")
            if size > CHUNK and permit and not permit.hold(len(part)):
                overloaded("memory", "The service has as many large bodies in memory as it may; send this one again.")
            parts.append(part)
    return Body(b"".join(parts).removeprefix(BYTE_ORDER_MARK), wire.received)


def is_gzip(request: Request) -> bool:
    """Return whether the body is compressed. Answers 415 for another encoding than gzip."""
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("identity", "", "gzip", "x-gzip"):
        problem(415, "Content-Encoding must be gzip or identity.")
    return "gzip" in encoding


class _Wire:
    """A body as it is sent, piece by piece."""

    def __init__(self, environ: dict[str, Any], length: int | None, limit: int, timeout_s: float | None) -> None:
        self._environ, self._length, self._limit, self._timeout_s = environ, length, limit, timeout_s
        self.received = 0

    def __iter__(self) -> Iterator[bytes]:
        # One byte more than the limit, because a body without a length that has exactly the limit would be refused.
        stream = get_input_stream(self._environ, max_content_length=self._limit + 1)
        # The server may block until it has all bytes that this loop asks for, and the loop cannot check the clock
        # meanwhile. So the first reads are small and later ones grow: at an even speed, however slow, a body that
        # takes too long is noticed within twice the timeout.
        began, size = time.monotonic(), FIRST
        while chunk := stream.read(size):
            self.received += len(chunk)
            yield chunk
            size = min(2 * size, CHUNK)
            if self._timeout_s is not None and time.monotonic() - began > self._timeout_s:
                problem(408, f"The body took longer than {self._timeout_s:g} seconds.")
        self._environ[WAS_READ] = True
        if self._length is not None and self.received < self._length:
            incomplete()


def incomplete(advice: str = "") -> NoReturn:
    """Answer 400 for a body of which only the beginning has come."""
    message = f"The body ended before it was complete.{advice}"
    problem(400, message, errors={"json": ["Incomplete body."]})


def _inflated(wire: Iterable[bytes]) -> Iterator[bytes]:
    inflater = zlib.decompressobj(GZIP)
    try:
        for chunk in wire:
            for start in range(0, len(chunk), SLICE):
                piece = chunk[start : start + SLICE]
                while piece:
                    if inflater.eof:  # gzip allows one member after the other
                        inflater = zlib.decompressobj(GZIP)
                    yield inflater.decompress(piece, CHUNK * 16)
                    piece = inflater.unconsumed_tail or inflater.unused_data
    except zlib.error:
        problem(400, "The body is not valid gzip.", errors={"json": ["Invalid gzip body."]})
    if not inflater.eof:
        problem(400, "The gzip body ends too early.", errors={"json": ["Invalid gzip body."]})
