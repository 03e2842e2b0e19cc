"""Whether this process has been forked, also by a host that does not run Python's fork hooks, as uWSGI does not."""

from __future__ import annotations

import mmap
import os
import sys
from typing import Protocol

_WIPE_ON_FORK = 18  # MADV_WIPEONFORK of Linux 4.14 and newer; the module mmap has no name for it


class Mark(Protocol):
    """A byte that is 1 in the process that wrote it, and 0 in every child that was forked since."""

    def __getitem__(self, index: int, /) -> int:
        """Read the byte at 0."""

    def __setitem__(self, index: int, value: int, /) -> None:
        """Write the byte at 0."""


class _Pid:
    """The same by the process id, which costs a system call each time."""

    def __init__(self) -> None:
        self._pid = 0

    def __getitem__(self, index: int) -> int:
        return os.getpid() == self._pid

    def __setitem__(self, index: int, value: int) -> None:
        self._pid = os.getpid()


def new_mark() -> Mark:
    """A mark that is not written yet."""
    if sys.platform == "linux":
        try:
            page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            page.madvise(_WIPE_ON_FORK)  # the kernel hands a child zeros
            return memoryview(page)  # which is read in a quarter of the time
        except (OSError, ValueError, AttributeError):
            pass  # an older kernel
    return _Pid() if hasattr(os, "fork") else bytearray(1)


mine = new_mark()
mine[0] = 1
