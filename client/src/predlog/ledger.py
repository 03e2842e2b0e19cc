"""What this process has taken and not delivered yet, counted in a file that outlives it.

One byte for each record holds the code of its model from the moment it is logged until it is acknowledged, in the
spool, or counted as dropped. A process that finds the file unlocked knows that its process has ended, and which records
that one dropped: the bytes that are not 0. The file lies in shared memory if there is some, since a mapped file on a
full disk would end the process with SIGBUS; it holds the names of models and no payload.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import json
import logging
import mmap
import os
import stat
import struct
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Union

from predlog.spool_file import locked, supported
from predlog.text import NAME_CHARACTERS, UNNAMED, clean
from predlog.throttled_log import say
from predlog.uuid7 import uuid7

CODES = 127  # models told apart; the last code is that of all others
MIN_MARKS = 1 << 14

_SUFFIX = ".ledger"
_HEADER = struct.Struct(f"=8sQQ{CODES + 1}Q{CODES + 1}Q")  # magic, time (ns since 1970), marks, owed, crowded
_MAGIC = b"predlog1"
_PAGE = mmap.ALLOCATIONGRANULARITY
_TIME, _MARKS, _OWED, _CROWDED = 1, 2, 3, 3 + CODES + 1  # in words of eight bytes

Marks = Union[bytearray, mmap.mmap]


class Ledger:
    """The counts of one process. Until open() and after close() they are in its own memory."""

    def __init__(self, directory: str | None, url: str, api_key: str | None, batch_size: int) -> None:
        self._directory = directory
        self._service = hashlib.sha256(f"{url}\n{api_key}".encode()).hexdigest()[:16]
        self.size = max(MIN_MARKS, 1 << (4 * batch_size).bit_length())
        self.mask = self.size - 1
        self.marks: Marks = bytearray(self.size)
        self.codes: dict[Any, int] = {}
        self._next_code = itertools.count(1).__next__  # of several threads, no two get the same
        self._crowded: dict[int, int] = {}
        self._words: Any = _words()
        self._header: mmap.mmap | None = None
        self._path = ""
        self._fd = -1

    def open(self) -> None:
        """Keep the counts in a file; if there can be none, they end with the process."""
        if not self._directory or not supported or self._fd >= 0:
            return
        try:
            os.makedirs(self._directory, mode=0o700, exist_ok=True)
            if not self._own():
                raise PermissionError(errno.EPERM, "the directory belongs to another user")
            self._map()
        except Exception as error:  # the client logs without the file, too
            say(logging.DEBUG, "Predlog: no file for the counts of what is in memory (%s)", error)
            self._let_go()

    def mark(self, number: int, name: object) -> None:
        """Mark a record as taken. The queue does the same itself if it must be quick."""
        try:
            code = self.codes[name]
        except (KeyError, TypeError):  # a name may be of any type until the record is encoded
            code = self._code(name)
        try:
            if not self.marks[number & self.mask]:
                self.marks[number & self.mask] = code
            else:  # more are waiting than there are marks
                self._crowded[number] = code
                self._words[_CROWDED + code] += 1
        except ValueError:
            pass  # closed in this moment

    def done(self, numbers: Iterable[int]) -> None:
        """Note that records are acknowledged, on disk, or counted as dropped."""
        marks, mask = self.marks, self.mask
        if not self._crowded:
            for number in numbers:
                marks[number & mask] = 0
            return
        for number in numbers:
            code = self._crowded.pop(number, 0)
            if code:
                self._words[_CROWDED + code] -= 1
            else:
                marks[number & mask] = 0

    def owe(self, dropped: Mapping[str, int], time_ns: int) -> None:
        """Note the dropped records that were not reported yet, by model."""
        counts: Counter[int] = Counter()
        for name, count in dropped.items():
            counts[self.codes.get(name) or self._code(name)] += count
        for code in range(1, CODES + 1):
            self._words[_OWED + code] = counts[code]
        self._words[_TIME] = time_ns

    def close(self) -> None:
        """Remove the file if no record in it is open; if not, the next process reports the rest."""
        if self._fd >= 0 and not (any(self._words[_OWED : _CROWDED + CODES + 1]) or bytes(self.marks[:]).strip(b"\0")):
            with contextlib.suppress(OSError):
                os.unlink(self._path)
        self._let_go()

    def disown(self) -> None:
        """In a forked child: the file is the parent's."""
        self._let_go()

    def orphans(self) -> Iterator[tuple[int, Mapping[str, int]]]:
        """When processes that have ended were last seen (ns since 1970), and what they lost, by model.

        A file is removed once its counts are taken over.
        """
        if not supported or not self._own():
            return
        assert self._directory is not None
        try:
            names = [name for name in os.listdir(self._directory) if self._one_of_ours(name)]
        except OSError:
            return
        for path in (os.path.join(self._directory, name) for name in names):
            if path == self._path:
                continue
            try:
                fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
            except OSError:
                continue
            try:
                if locked(fd):
                    found = _read(fd)
                    if found is not None:
                        yield found
                    os.unlink(path)
            except OSError:
                pass
            finally:
                os.close(fd)

    def _own(self) -> bool:
        """Whether the directory is this user's: another user could invent dropped records, or plant links."""
        try:
            status = os.lstat(self._directory or "")
        except OSError:
            return False
        return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()

    def _one_of_ours(self, name: str) -> bool:
        return name.startswith(self._service) and name.endswith(_SUFFIX)

    def _map(self) -> None:
        assert self._directory is not None
        while self._fd < 0:
            path = os.path.join(self._directory, f"{self._service}-{uuid7()}{_SUFFIX}")
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            self._path = path
            if locked(fd):
                self._fd = fd
            else:
                os.close(fd)
        empty = memoryview(bytes(_PAGE + self.size))
        while empty:  # written, not truncated to that length: all of it must be there before it is mapped
            empty = empty[os.write(self._fd, empty) :]
        self._header = mmap.mmap(self._fd, _PAGE)
        marks = mmap.mmap(self._fd, self.size, offset=_PAGE)
        words: Any = memoryview(self._header).cast("Q")
        words[_TIME:_MARKS], words[_MARKS] = self._words[_TIME:_MARKS], self.size
        before, self._words = self._words, words
        words[_OWED:] = before[_OWED:]
        earlier, self.marks = self.marks, marks
        for place, code in enumerate(earlier):
            if code:
                marks[place] = code
        for name, code in list(self.codes.items()):
            self._say(name, code)
        self._header[: len(_MAGIC)] = _MAGIC

    def _code(self, name: object) -> int:
        if not isinstance(name, str) or len(name) > NAME_CHARACTERS:
            return CODES
        code = min(self._next_code(), CODES)
        if code < CODES:
            self._say(name, code)
            self.codes[name] = code
        return code

    def _say(self, name: str, code: int) -> None:
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                os.write(self._fd, json.dumps([code, clean(name)]).encode() + b"\n")

    def _let_go(self) -> None:
        """Close the file; a thread that still marks does so in memory."""
        fd, marks, words, header = self._fd, self.marks, self._words, self._header
        self._fd, self.marks, self._words, self._header = -1, bytearray(self.size), _words(), None
        if fd >= 0:
            os.close(fd)
        if header is not None:  # a map has a file descriptor of its own, and so the lock
            words.release()
            header.close()
        if isinstance(marks, mmap.mmap):
            marks.close()


def default_directory() -> str:
    """Return a path in shared memory if the system has it: it outlives a process, and often a container of a pod."""
    if (chosen := os.environ.get("PREDLOG_LEDGER_DIR")) is not None:
        return chosen
    parent = "/dev/shm" if sys.platform == "linux" and os.access("/dev/shm", os.W_OK) else tempfile.gettempdir()
    return os.path.join(parent, f"predlog-{os.geteuid()}") if hasattr(os, "geteuid") else ""


def _words() -> Any:
    return memoryview(bytearray(_PAGE)).cast("Q")


def _read(fd: int) -> tuple[int, Mapping[str, int]] | None:
    """The counts of a file, None if it is not a whole one."""
    with open(fd, "rb", closefd=False) as file:
        data = file.read()
    if len(data) < _PAGE or not data.startswith(_MAGIC):
        return None
    _, time_ns, size, *counts = _HEADER.unpack_from(data)
    lost = Counter(data[_PAGE : _PAGE + size])
    for code in range(1, CODES + 1):
        lost[code] += counts[code] + counts[CODES + 1 + code]
    names = dict(_names(data[_PAGE + size :]))
    by_model: Counter[str] = Counter()
    for code, count in lost.items():
        if code and count:
            by_model[names.get(code, UNNAMED)] += count
    return time_ns, by_model


def _names(data: bytes) -> Iterator[tuple[int, str]]:
    for line in data.splitlines():
        with contextlib.suppress(ValueError, TypeError):
            code, name = json.loads(line)
            yield code, str(name)
