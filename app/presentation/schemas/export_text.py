"""Exported predictions as bytes of NDJSON or CSV.

A line end stands between two lines, and one more after the last: an export that was cut does not end with one.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator

from app.application.export import Block

COLUMNS = (
    "id", "timestamp", "model_name", "model_version", "duration_ms", "was_successful", "error", "metadata", "request_id"
)  # fmt: skip
HEADER = ",".join(COLUMNS)
GZIP = 16 + zlib.MAX_WBITS
FASTEST = 1

Writer = Callable[[Iterable[Block]], Iterator[bytes]]


def ndjson(blocks: Iterable[Block]) -> Iterator[bytes]:
    """One JSON object a line."""
    return _lines((block.lines for block in blocks), "\n")


def csv(blocks: Iterable[Block]) -> Iterator[bytes]:
    """RFC 4180 with a line of column names; metadata as JSON."""
    return _lines(_with_header(blocks), "\r\n")


def compressed(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the parts as gzip; if the parts fail, the gzip has all parts until then, and no trailer."""
    deflate = zlib.compressobj(FASTEST, wbits=GZIP)
    try:
        for part in parts:
            if piece := deflate.compress(part):
                yield piece
    except Exception:
        yield deflate.flush(zlib.Z_SYNC_FLUSH)
        raise
    yield deflate.flush()


def _with_header(blocks: Iterable[Block]) -> Iterator[list[str]]:
    yield [HEADER]
    for block in blocks:
        yield block.lines


def _lines(parts: Iterable[list[str]], line_end: str) -> Iterator[bytes]:
    started = False
    for lines in filter(None, parts):
        yield ((line_end if started else "") + line_end.join(lines)).encode()
        started = True
    if started:
        yield line_end.encode()
