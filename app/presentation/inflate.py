"""Read a request's body, inflated, and never more of it than is allowed: a gzip bomb is stopped while it inflates."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import IO

from flask import Request
from werkzeug.wsgi import get_input_stream

from app.presentation.errors import problem

CHUNK = 64 * 1024
GZIP = 16 + zlib.MAX_WBITS


def read_body(request: Request, limit: int) -> bytes:
    """The body as it was before Content-Encoding.

    Answers 413 beyond `limit` bytes, 415 for another encoding than gzip, 400 for what is not gzip after all.
    """
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("identity", "", "gzip", "x-gzip"):
        problem(415, "Content-Encoding must be gzip or identity.")
    # One byte more than is allowed, or a body without a length that is just as long as that would be refused.
    chunks = _chunks(get_input_stream(request.environ, max_content_length=limit + 1))
    parts, size = [], 0
    for part in _inflated(chunks, limit) if "gzip" in encoding else chunks:
        size += len(part)
        if size > limit:
            problem(413, f"The body must be at most {limit} bytes, inflated.")
        parts.append(part)
    return b"".join(parts)


def _chunks(stream: IO[bytes]) -> Iterator[bytes]:
    while chunk := stream.read(CHUNK):
        yield chunk


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
