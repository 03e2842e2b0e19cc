"""Exported predictions as bytes of NDJSON or CSV.

A line end stands between two lines, and one more after the last: an export that was cut does not end with one. A block
without lines asks for some bytes that change nothing, because a connection that is silent for long is closed.
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
    """One JSON object a line. A block without lines becomes a space after the last object or before the first."""
    line_end = ""
    is_empty = True
    for block in blocks:
        is_empty = False
        if block.lines:
            yield (line_end + "\n".join(block.lines)).encode()
            line_end = "\n"
        else:
            yield b" "
    if not is_empty:
        yield b"\n"


def csv(blocks: Iterable[Block]) -> Iterator[bytes]:
    """RFC 4180 with a line of column names; metadata as JSON.

    The last line is held back until another follows: a block without lines becomes its next character, but no line end.
    """
    held = HEADER
    for block in blocks:
        if block.lines:
            yield "\r\n".join((held, *block.lines[:-1])).encode()
            held = f"\r\n{block.lines[-1]}"
        elif held:
            size = len(held) - len(held.lstrip("\r\n")) + 1
            yield held[:size].encode()
            held = held[size:]
    yield f"{held}\r\n".encode()


def compressed(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Yield each part as gzip at once; if the parts fail, the gzip has no trailer."""
    deflate = zlib.compressobj(FASTEST, wbits=GZIP)
    for part in parts:
        yield deflate.compress(part) + deflate.flush(zlib.Z_SYNC_FLUSH)
    yield deflate.flush()
