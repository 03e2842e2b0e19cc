"""How far a file was sent, kept in a small file beside it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import Any, BinaryIO

from predlog.cli.ndjson import Lines


@dataclass
class Progressed:
    """The finished part of a file: bytes and lines, the hash of those lines, and the results."""

    timestamp: str  # for records that have none; fixed for all that the file held when the sending began
    fixed_for: int  # bytes
    offset: int = 0
    line: int = 0
    digest: str = ""
    stored: int = 0
    duplicates: int = 0
    rejected: int = 0
    service: str = ""  # its URL; empty in the state of a version that did not keep it


class State:
    """The progress of one file, and the path that keeps it; the progress of a stream is not kept."""

    def __init__(self, progressed: Progressed, places: list[str]) -> None:
        self.progressed = progressed
        self._places = places
        self.kept = False

    def save(self, lines: Any) -> None:
        """Remember that everything up to there is stored or rejected."""
        self.progressed.offset, self.progressed.line = lines.offset, lines.line
        self.progressed.digest = lines.digest.hexdigest()
        text = json.dumps(asdict(self.progressed))
        self.kept = False
        for place in self._places:
            with contextlib.suppress(OSError):
                os.makedirs(os.path.dirname(place), exist_ok=True)
                with open(f"{place}.new", "w", encoding="utf-8") as file:
                    file.write(text)
                os.replace(f"{place}.new", place)
                self.kept = True
                return


def size_of(file: BinaryIO) -> int | None:
    """The size of a file in bytes; None if it is a stream: a pipe, for example `<(zcat predictions.gz)` of a shell."""
    status = os.fstat(file.fileno())
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def of_stream(file: BinaryIO) -> tuple[State, Lines]:
    """The state of standard input or a pipe, which cannot be gone on with."""
    fresh = Progressed(_iso(datetime.now(timezone.utc).timestamp()), 0)
    return State(fresh, []), Lines(file, fresh.timestamp)


def of_file(path: str, file: BinaryIO, service: str, restart: bool) -> tuple[State, Lines, str]:
    """Return the state of a file, its remaining lines, and why they are all of them although some were sent before."""
    status = os.fstat(file.fileno())
    now = datetime.now(timezone.utc).timestamp()
    fresh = Progressed(_iso(min(status.st_mtime, now)), status.st_size, service=service)
    places = _places(os.path.abspath(path))
    kept = None if restart else _load(places)
    why = ""
    if kept is not None and kept.service not in (service, ""):
        why = f"was last sent to {kept.service}"
    elif kept is not None:
        kept.service = service
        lines = Lines(file, kept.timestamp, growing=True)
        lines.skip(kept.offset)
        if lines.digest.hexdigest() == kept.digest:
            if kept.offset >= kept.fixed_for:  # all was sent: lines added since get the new time
                kept.timestamp, kept.fixed_for = fresh.timestamp, fresh.fixed_for
                lines.timestamp = fresh.timestamp
            return State(kept, places), lines, ""
        file.seek(0)
        why = "has changed since it was last sent"
    return State(fresh, places), Lines(file, fresh.timestamp, growing=True), why


def _load(places: list[str]) -> Progressed | None:
    for place in places:
        with contextlib.suppress(OSError, ValueError, TypeError), open(place, encoding="utf-8") as file:
            return Progressed(**json.load(file))
    return None


def _places(path: str) -> list[str]:
    """Return the path beside the file and, if that cannot be written, the one in the user's state directory."""
    folder, name = os.path.split(path)
    home = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return [
        os.path.join(folder, f".{name}.predlog"),
        os.path.join(home, "predlog", hashlib.sha256(os.fsencode(path)).hexdigest()),
    ]


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="microseconds")
