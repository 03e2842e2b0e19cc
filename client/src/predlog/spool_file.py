"""One spool file: framed lines of records and of reports, locked by the process that writes or sends it.

A line is the CRC-32 of what follows in eight hexadecimal digits, a space, and JSON: an object is a record, an array is
reports of dropped records. The lock ends with its process, so any process may send a file that a killed one left.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
import zlib
from collections.abc import Iterable

try:
    import fcntl
except ImportError:  # Windows: Client refuses spool_dir there
    fcntl = None  # type: ignore[assignment]  # to mypy the name is a module's

from predlog.dropped import MAX_COUNT, Report

PREFIX, SUFFIX = "predlog-", ".spool"
FRESH = ".new"  # behind the name of a file that is to take the place of another one
_MAY_BE_SEVERAL = re.compile(rb"\}\s*,")
_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW if fcntl else 0

supported = fcntl is not None
opened: set[Segment] = set()  # from the moment that there is a file to be closed in a forked child


def frame(payload: bytes) -> bytes:
    """One line of a spool file."""
    return b"%08x %s\n" % (zlib.crc32(payload), payload)


def frames(lines: Iterable[bytes], reports: list[Report]) -> bytes:
    """Records and reports as the lines of a spool file."""
    said = [json.dumps(reports, separators=(",", ":")).encode()] if reports else []
    return b"".join(frame(payload) for payload in (*lines, *said))


class Segment:
    """A spool file that this process holds the lock of."""

    def __init__(self, path: str, fd: int) -> None:
        self.path = path
        self.fd = fd
        opened.add(self)
        self.lines: list[bytes] = []
        self.reports: list[Report] = []
        self.torn = 0

    @classmethod
    def create(cls, path: str) -> Segment:
        """A new file, locked before anybody else could take it for an abandoned one."""
        while True:
            segment = cls(path, os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | _FLAGS, 0o600))
            if segment._lock():
                return segment

    @classmethod
    def claim(cls, path: str) -> Segment | None:
        """An existing file with what it holds, or None while another process has it, or once it is gone."""
        try:
            fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | _FLAGS)
        except FileNotFoundError:
            return None
        segment = cls(path, fd)
        if not stat.S_ISREG(os.fstat(fd).st_mode):  # reading a pipe would never end
            segment.release()
            return None
        if not segment._lock():
            return None
        try:
            with open(fd, "rb", closefd=False) as file:
                segment._parse(file.read())
        except BaseException:
            segment.release()
            raise
        return segment

    @property
    def written_ns(self) -> int:
        """When the file was last written to (ns since 1970)."""
        return os.fstat(self.fd).st_mtime_ns

    @property
    def deleted(self) -> bool:
        """Whether someone removed the file under us."""
        return os.fstat(self.fd).st_nlink == 0

    def append(self, data: bytes) -> None:
        """Write all of it or, raising OSError, none of it."""
        size = os.fstat(self.fd).st_size
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(self.fd, view) :]
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self.fd, size)
            raise

    def replace(self, data: bytes) -> None:
        """Put a file of the same age with this content in its place, and let go of it.

        Raises OSError, and then the file is as it was and still locked.
        """
        written_ns = self.written_ns
        self._remove_fresh()
        fresh = Segment.create(f"{self.path}{FRESH}")
        try:
            fresh.append(data)
            os.utime(fresh.fd, ns=(written_ns, written_ns))
            os.replace(fresh.path, self.path)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(fresh.path)
            raise
        finally:
            fresh.release()
        self.release()

    def remove(self) -> None:
        """Delete the file, then let go of it."""
        try:
            self._remove_fresh()
            os.unlink(self.path)
        finally:
            self.release()

    def release(self) -> None:
        """Unlock the file, so that any process may take it.

        Closing alone does not: a child that was forked while the file was being opened has a copy of the descriptor.
        """
        if self.fd >= 0:
            with contextlib.suppress(OSError):
                fcntl.flock(self.fd, fcntl.LOCK_UN)
        self.disown()

    def disown(self) -> None:
        """Close the file and leave the lock alone: in a forked child it is the parent's."""
        opened.discard(self)
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def _remove_fresh(self) -> None:
        """Delete what a process left that was killed in replace(): only who has the lock of this file makes it."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{self.path}{FRESH}")

    def _parse(self, data: bytes) -> None:
        for line in data.split(b"\n"):
            if not line:
                continue
            checksum, _, payload = line.partition(b" ")
            if checksum != b"%08x" % zlib.crc32(payload):
                self.torn += 1
            elif _is_record(payload):
                self.lines.append(payload)
            elif (reports := _reports(payload)) is not None:
                self.reports.extend(reports)
            else:
                self.torn += 1

    def _lock(self) -> bool:
        """Whether the lock was free and the file is still in its directory; if not, it is let go of."""
        free = False
        try:
            free = locked(self.fd)
        finally:
            if not free:
                self.release()
        return free


def locked(fd: int) -> bool:
    """Lock an open file for this process, if nobody has it and it was not removed meanwhile."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return os.fstat(fd).st_nlink > 0


def _is_record(payload: bytes) -> bool:
    """Whether it counts as one record; one that the service cannot read it refuses when it is alone."""
    if not payload.startswith(b"{"):
        return False
    if not _MAY_BE_SEVERAL.search(payload):
        return True
    try:
        return isinstance(json.loads(payload), dict)
    except (ValueError, RecursionError):
        return False


def _reports(payload: bytes) -> list[Report] | None:
    """The reports of a line, or None if it holds something else: a file may have been written by anyone."""
    try:
        reports = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    if not isinstance(reports, list):
        return None
    return reports if all(_is_report(report) for report in reports) else None


def _is_report(report: object) -> bool:
    if not isinstance(report, dict) or type(report.get("count")) is not int or not 0 < report["count"] <= MAX_COUNT:
        return False
    return all(isinstance(report.get(name), str) for name in ("id", "model_name", "reason", "timestamp"))
