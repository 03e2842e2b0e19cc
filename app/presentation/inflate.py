"""Read a request's body, inflated, and never more of it than is allowed: a gzip bomb is stopped while it inflates.

Who waits for a slow one holds up nobody else, nor for ever.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterator
from contextlib import nullcontext
from typing import IO

from flask import Request
from werkzeug.wsgi import get_input_stream

from app.presentation.errors import overloaded, problem
from app.presentation.gate import VISIT, Visit

FIRST = 64
CHUNK = 64 * 1024
GZIP = 16 + zlib.MAX_WBITS


def read_body(request: Request, limit: int) -> bytes:
    """The body as it was before Content-Encoding.

    Answers 408 where it takes too long, 413 beyond `limit` bytes, 415 for another encoding than gzip, 400 for what is
    not gzip after all or not complete, 503 while there are too many large ones.
    """
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("identity", "", "gzip", "x-gzip"):
        problem(415, "Content-Encoding must be gzip or identity.")
    visit: Visit | None = request.environ.get(VISIT)
    # One byte more than is allowed, or a body without a length that is just as long as that would be refused.
    stream = get_input_stream(request.environ, max_content_length=limit + 1)
    chunks = _chunks(stream, request.content_length, visit.patience_s if visit else None)
    parts, size = [], 0
    with visit.outside() if visit else nullcontext():
        for part in _inflated(chunks, limit) if "gzip" in encoding else chunks:
            size += len(part)
            if size > limit:
                problem(413, f"The body must be at most {limit} bytes, inflated.")
            if size > CHUNK and visit and not visit.hold(len(part)):
                overloaded("memory", "The service has as many large bodies in memory as it may; send this one again.")
            parts.append(part)
    return b"".join(parts)


def _chunks(stream: IO[bytes], length: int | None, patience_s: float | None) -> Iterator[bytes]:
    # A server may wait for all that it is asked for, so that no clock is looked at meanwhile: what is asked for grows
    # from little. At an even speed, however slow, a body that takes too long is noticed within twice the time.
    began, received, size = time.monotonic(), 0, FIRST
    while chunk := stream.read(size):
        yield chunk
        received += len(chunk)
        size = min(2 * size, CHUNK)
        if patience_s is not None and time.monotonic() - began > patience_s:
            problem(408, f"The body took longer than {patience_s:g} seconds.")
    if length is not None and received < length:
        problem(400, "The body ended before it was complete.", errors={"json": ["Incomplete body."]})


def _inflated(chunks: Iterator[bytes], limit: int) -> Iterator[bytes]:
    inflater = zlib.decompressobj(GZIP)
    try:
        for chunk in chunks:
            while chunk:
                if inflater.eof:  # gzip allows one member after the other
                    inflater = zlib.decompressobj(GZIP)
                yield inflater.decompress(chunk, CHUNK * 16)
                chunk = inflater.unconsumed_tail or inflater.unused_data
    except zlib.error:
        problem(400, "The body is not valid gzip.", errors={"json": ["Invalid gzip body."]})
    if not inflater.eof:
        problem(400, "The gzip body ends too early.", errors={"json": ["Invalid gzip body."]})
