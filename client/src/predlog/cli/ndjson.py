"""Lines of an NDJSON file as records that can be sent twice and stored once."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple, NoReturn

_IDENTIFIERS = uuid.UUID("3b0c7a52-6a0e-5d0c-9b43-5f2a7cf0c1ad")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Line(NamedTuple):
    """A record to send."""

    number: int
    body: bytes


class InvalidLine(NamedTuple):
    """A line that would spoil its whole batch."""

    number: int
    why: str


class Lines:
    """Reads the lines of a file, and keeps count.

    A record without a request_id gets a UUIDv5 of all lines up to its own, so it has the same one in every run, also
    after lines were added at the end; one without a timestamp gets the one given here.

    growing: whether another program may still write the file.
    """

    def __init__(self, file: BinaryIO, timestamp: str, growing: bool = False) -> None:
        self._file = file
        self.growing = growing
        self.unfinished = False  # the last line has no end, and is not whole JSON: it was left out
        self.timestamp = timestamp
        self.offset = 0
        self.line = 0
        self.digest = hashlib.sha256()
        self._unended = False

    def __iter__(self) -> Iterator[Line | InvalidLine]:
        for raw in self._file:
            if self.growing and not raw.endswith(b"\n") and not _whole(raw):
                self.unfinished = True
                return
            line = self._count(raw)
            if line:
                try:
                    yield Line(self.line, _complete(line, self.digest.hexdigest(), self.timestamp))
                except ValueError as error:
                    yield InvalidLine(self.line, str(error))

    def skip(self, offset: int) -> None:
        """Read on to an offset without looking at the records."""
        while self.offset < offset and (raw := self._file.readline()):
            self._count(raw)

    def _count(self, raw: bytes) -> bytes:
        self.offset += len(raw)
        line = raw.strip()
        if self._unended and not line:  # the end of a line that was sent without it
            self._unended = False
            return b""
        self._unended = not raw.endswith(b"\n")
        self.line += 1
        if self.line == 1 and line.startswith(_BYTE_ORDER_MARK):
            line = line[len(_BYTE_ORDER_MARK) :]
        if line:
            self.digest.update(line + b"\n")
        return line


def _whole(raw: bytes) -> bool:
    """Whether a line without its end is whole JSON already: nothing can follow an object."""
    try:
        return isinstance(json.loads(raw), (dict, list))
    except (ValueError, RecursionError):
        return False


def _complete(line: bytes, digest: str, timestamp: str) -> bytes:
    """The line with the fields that make it safe to repeat; the rest stays as it was written, to the digit."""
    try:
        record = json.loads(line.decode(), parse_constant=_refuse)
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at column {error.colno}") from None
    except RecursionError:
        raise ValueError("nested too deep") from None
    if not isinstance(record, dict):
        raise ValueError("not a JSON object")
    missing = {}
    if record.get("request_id") is None:
        missing["request_id"] = str(uuid.uuid5(_IDENTIFIERS, digest))
    if record.get("timestamp") is None:
        missing["timestamp"] = timestamp
    if not missing:
        return line
    comma = b"," if record else b""
    return line[:-1].rstrip() + comma + json.dumps(missing).encode()[1:]


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
