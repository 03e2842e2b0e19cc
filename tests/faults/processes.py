"""The processes of a service and of a PostgreSQL, found in /proc."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from support.service import Service, is_alive

TIMEOUT = 60.0
PAGE = os.sysconf("SC_PAGE_SIZE")


def master(service: Service) -> int:
    """The WSGI server that the supervisor keeps up."""
    (found,) = _masters(service)
    return found


def workers(service: Service) -> set[int]:
    """The processes that answer requests; none between the end of a master and the next one."""
    found = [pid for master in _masters(service) for pid in children(master)]
    return {pid for pid in found if "resource_tracker" not in command(pid)}


def _masters(service: Service) -> list[int]:
    return [pid for pid in children(service.process.pid) if "granian" in command(pid)]


def postmaster(data: Path) -> int:
    """The first process of the server that keeps its data here."""
    return int((data / "postmaster.pid").read_text().split()[0])


def backend(postmaster: int) -> int:
    """One process of the server that works for a client."""
    return next(pid for pid in children(postmaster) if " 127.0.0.1(" in command(pid))


def children(parent: int) -> list[int]:
    """The processes that a process has started and that live."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit() and int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(entry.name))
    return sorted(filter(is_alive, found))


def command(pid: int) -> str:
    """The command line."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def kill(*pids: int) -> None:
    """kill -9, and wait until they are gone."""
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    wait_until_gone(*pids)


def wait_until_gone(*pids: int) -> None:
    """Wait until none of them lives."""
    until = time.monotonic() + TIMEOUT
    while any(is_alive(pid) for pid in pids):
        assert time.monotonic() < until
        time.sleep(0.01)


@contextmanager
def paused(postmaster: int) -> Iterator[None]:
    """A PostgreSQL of which no process does anything for as long as the block lasts."""
    stopped = [postmaster]
    os.kill(postmaster, signal.SIGSTOP)
    try:
        for pid in children(postmaster):
            os.kill(pid, signal.SIGSTOP)
            stopped.append(pid)
        yield
    finally:
        for pid in stopped:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def memory(service: Service) -> int:
    """Bytes that the workers have in memory."""
    return sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE for pid in workers(service))
