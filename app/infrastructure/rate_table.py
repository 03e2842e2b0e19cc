"""A number for each caller, in a small table in memory that all workers of one machine share."""

from __future__ import annotations

import hashlib
import mmap
import os
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

# The caller, as 64 bits of a hash, and the number.
ENTRY = struct.Struct("<Qd")
# A caller may be in any of the entries of one set.
ENTRIES, SETS = 8, 1024
SET_SIZE = ENTRIES * ENTRY.size
SIZE = SETS * SET_SIZE


class RateTable:
    """Remembers some 8,000 callers. In a full set the one with the smallest number makes room.

    With the numbers of a rate limit that is the caller that has been quiet for longest. A forgotten number matters only
    if more callers than there are entries use up their rate at the same time.
    """

    def __init__(self, path: Path | None) -> None:
        """Share the table in this file with other processes; without a file the table is of this process alone."""
        self._file = -1 if path is None else _open(path)
        self._memory = mmap.mmap(self._file, SIZE)
        self._lock = threading.Lock()

    def update(self, caller: str, change: Callable[[float], float]) -> None:
        """Replace a caller's number (0 for an unknown caller) by `change` of it, atomically."""
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
            import fcntl  # a file is shared only under a supervisor, which needs POSIX

            fcntl.flock(self._file, fcntl.LOCK_EX)  # the system releases it if this process is killed
            try:
                yield
            finally:
                fcntl.flock(self._file, fcntl.LOCK_UN)


def _open(path: Path) -> int:
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    os.truncate(file, SIZE)
    return file
