"""A directory of spool files, shared by any number of processes and capped over all of them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import time
from collections.abc import Iterator

from predlog.batch import Batch
from predlog.dropped import MAX_KEYS, SPOOL_FULL, Dropped, Report
from predlog.record import count_of
from predlog.settings import Settings
from predlog.spool_file import PREFIX, SUFFIX, Segment, frames, opened, supported
from predlog.throttled_log import Trouble
from predlog.uuid7 import uuid7

MAX_WAIT_S = 3600  # of files for another URL, before the client warns of them
MAX_OWN = 1000  # files, before those are looked for that exist no more


class Spool:
    """Writes this process's file and claims finished ones, of any process with the same service, to send.

    One thread writes, one claims. There is no fsync: written files survive the process, but not a power failure.
    """

    def __init__(self, settings: Settings, url: str, dropped: Dropped, trouble: Trouble) -> None:
        assert settings.spool_dir is not None
        if not supported:
            raise ValueError("spool_dir needs file locks as Linux and macOS have them; leave it out on this system")
        self.hungry = False  # the sender has nothing: even a small file is worth finishing
        self.broken = False  # the directory cannot be written: records stay in memory meanwhile
        self._service = _hash(url, settings.unix_socket)
        self._directory = os.path.abspath(settings.spool_dir)
        self._max_bytes = settings.spool_max_bytes
        self._segment_bytes = settings.batch_bytes
        self._segment_records = settings.batch_size
        self._dropped = dropped
        self._trouble = trouble
        self._writing: Segment | None = None
        self._records = self._bytes = 0
        self._own: dict[str, int] = {}
        self._stuck: set[str] = set()

    def write(self, batch: Batch) -> bool:
        """Keep the batch in files; return False, with the batch untouched, if the directory cannot be written."""
        data = frames(batch.lines, batch.reports)
        try:
            if not data:
                return True
            self._make_room(len(data))
            self._open(len(batch.lines), len(data)).append(data)
        except OSError as error:
            self.broken = True
            self.rotate()
            text = "Predlog: the spool cannot be written (%s), records stay in memory"
            self._trouble.warn("spool", text, error.strerror)
            return False
        self.broken = False
        self._records += len(batch.lines)
        self._bytes += len(data)
        assert self._writing is not None
        self._own[self._writing.path] = self._own.get(self._writing.path, 0) + batch.records
        return True

    def rotate(self) -> bool:
        """Finish the file being written, so that it can be sent; whether there was one."""
        segment, self._writing = self._writing, None
        self.hungry = self.hungry and segment is None
        if segment is not None:
            segment.release()
        return segment is not None

    def claim(self) -> Segment | None:
        """The oldest finished file that nobody else has, locked."""
        for path in self._paths():
            with contextlib.suppress(OSError):
                if not self._is_mine(path):
                    self._look_at(path)
                elif path not in self._stuck and (segment := Segment.claim(path)) is not None:
                    return segment
        return None

    def remove(self, segment: Segment) -> None:
        """Delete a file whose records are stored or dropped. If that fails, its records are no longer counted here."""
        try:
            segment.remove()
        except FileNotFoundError:
            pass
        except OSError as error:
            self._stuck.add(segment.path)  # else it would be sent for ever
            self._trouble.warn("unlink", "Predlog: a spool file cannot be removed (%s)", error.strerror)
        finally:
            self._own.pop(segment.path, None)  # last, because flush() returns when there are none

    def replace(self, segment: Segment, lines: list[bytes], reports: list[Report]) -> bool:
        """Leave only these in the file, and let any process have it; return False if that fails and nothing is done."""
        try:
            segment.replace(frames(lines, reports))
        except OSError:
            return False
        if segment.path in self._own:
            self._own[segment.path] = sum(map(count_of, lines))
        if not lines:  # flush() waits for records, and not for reports
            self._own.pop(segment.path, None)
        return True

    def release(self, segment: Segment) -> None:
        """Let any process have the file again."""
        segment.release()

    def outstanding(self) -> dict[str, int]:
        """Records in each file that this process wrote and that still exists, by path."""
        for path in list(self._own):
            if not os.path.exists(path):
                self._own.pop(path, None)
        return dict(self._own)

    def disown(self) -> None:
        """In a forked child: close the parent's files, whose locks would else outlive it."""
        for segment in list(opened):
            segment.disown()

    def _open(self, records: int, size: int) -> Segment:
        segment = self._writing
        if segment is not None:
            full = self._records + records > self._segment_records or self._bytes + size > self._segment_bytes
            if not full and not segment.deleted:
                return segment
            self.rotate()
        if len(self._own) > MAX_OWN:
            self.outstanding()  # which forgets those that other processes have sent
        os.makedirs(self._directory, mode=0o700, exist_ok=True)
        self._records = self._bytes = 0
        self._writing = Segment.create(os.path.join(self._directory, f"{PREFIX}{uuid7()}.{self._service}{SUFFIX}"))
        return self._writing

    def _make_room(self, needed: int) -> None:
        """Evict the oldest files until that many bytes fit.

        Files that a process writes or sends at the moment cannot be evicted: they may overrun the cap.
        """
        sizes = dict(self._sizes())
        total = sum(sizes.values()) + needed
        for path in sorted(sizes):
            if total <= self._max_bytes:
                break
            with contextlib.suppress(OSError):  # one file that cannot be opened or removed: the next one, then
                segment = Segment.claim(path)
                if segment is not None:
                    total -= sizes[path] - self._evict(segment)

    def _evict(self, segment: Segment) -> int:
        """Drop the records of a file, and return how many bytes it still has."""
        left = 0
        if self._is_mine(segment.path):
            segment.remove()
            self._dropped.give_back(segment.reports)
            self._dropped.add_lines(segment.lines, SPOOL_FULL)
        else:
            left = self._leave_reports(segment)
        if segment.lines:
            self._trouble.warn("full", "Predlog: the spool is full, its oldest records are dropped and counted")
        return left

    def _leave_reports(self, segment: Segment) -> int:
        """Leave in the file of another service how many of its records are dropped, for its clients to report."""
        counted = Dropped()
        counted.add_lines(segment.lines, SPOOL_FULL)
        left = frames([], [*segment.reports, *counted.take(MAX_KEYS)])
        try:
            if segment.lines:
                segment.replace(left)
        finally:
            segment.release()
        self._dropped.unreported(SPOOL_FULL, counted.totals[SPOOL_FULL])
        return len(left)

    def _is_mine(self, path: str) -> bool:
        """Whether the file is for this service; one that names none was left by an earlier version, for any client."""
        _, _, service = os.path.basename(path)[: -len(SUFFIX)].partition(".")
        return service in ("", self._service)

    def _look_at(self, path: str) -> None:
        """Warn of a file for another URL that no client sends, as after the service has moved. Raises OSError."""
        if time.time() - os.lstat(path).st_mtime > MAX_WAIT_S:
            text = (
                "Predlog: spool files wait for a client with another URL: %s; if the service has moved, see the README"
            )
            self._trouble.warn("another URL", text, os.path.basename(path))

    def _sizes(self) -> Iterator[tuple[str, int]]:
        for path in self._paths():
            with contextlib.suppress(OSError):
                status = os.lstat(path)
                if stat.S_ISREG(status.st_mode):
                    yield path, status.st_size

    def _paths(self) -> list[str]:
        try:
            names = os.listdir(self._directory)
        except OSError:
            return []
        return [os.path.join(self._directory, name) for name in sorted(names) if _ours(name)]


def _hash(url: str, unix_socket: str | None) -> str:
    """What tells services apart in names of files. Not the key, because keys are rotated."""
    return hashlib.sha256(f"{url.rstrip('/')}\n{unix_socket or ''}".encode()).hexdigest()[:16]


def _ours(name: str) -> bool:
    return name.startswith(PREFIX) and name.endswith(SUFFIX)
