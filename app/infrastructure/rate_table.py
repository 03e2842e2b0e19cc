"""A number for each caller, shared by the workers of one machine: a small table in memory that all of them have."""

from __future__ import annotations

import hashlib
import mmap
import os
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

# Who it is, as 64 bits of a hash, and the number.
ENTRY = struct.Struct("<Qd")
# A caller may be in any of the entries of one set.
ENTRIES, SETS = 8, 1024
SET_SIZE = ENTRIES * ENTRY.size
SIZE = SETS * SET_SIZE


class RateTable:
    """Remembers some 8,000 callers. In a full set the one with the smallest number makes room.

    With the numbers of a rate limit that is the one who has been quiet for longest: what is forgotten with it matters
    only while more callers than there are entries use up their allowance at the same time.
    """

    def __init__(self, path: Path | None) -> None:
        """Share the table in this file with whoever opens it, too; without a file it is of this process alone."""
        self._file = -1 if path is None else _open(path)
        self._memory = mmap.mmap(self._file, SIZE)
        self._lock = threading.Lock()

    def update(self, caller: str, change: Callable[[float], float]) -> None:
        """Replace a caller's number, 0 for one that is not known, by what `change` makes of it."""
        name = int.from_bytes(hashlib.blake2b(caller.encode(), digest_size=8).digest(), "little")
        start = name % SETS * SET_SIZE
        with self._alone():
            entries = list(ENTRY.iter_unpack(self._memory[start : start + SET_SIZE]))
            place = next((i for i, (known, _) in enumerate(entries) if known == name), None)
            if place is None:
                place, number = min(range(ENTRIES), key=lambda i: entries[i][1]), 0.0
            else:
                number = entries[place][1]
            ENTRY.pack_into(self._memory, start + place * ENTRY.size, name, change(number))

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with self._lock:
            if self._file < 0:
                yield
                return
            import fcntl  # where there is a supervisor there is POSIX

            fcntl.flock(self._file, fcntl.LOCK_EX)  # given back by the system, should this process be killed
            try:
                yield
            finally:
                fcntl.flock(self._file, fcntl.LOCK_UN)


def _open(path: Path) -> int:
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    os.truncate(file, SIZE)
    return file
