"""The real service as a process: `python -m app` on a free port."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any

import config
from examples.processes import NO_DATABASE
from support.ports import free_port

ROOT = Path(__file__).parents[2]


def clean_environment(**settings: str) -> dict[str, str]:
    """The environment with these settings alone; a database that it or a .env names is not written to."""
    clean = {name: value for name, value in os.environ.items() if name not in config.NAMES}
    return {**clean, **NO_DATABASE, **settings}


class Service:
    """A running service; its log is what it has printed so far."""

    def __init__(
        self,
        folder: Path,
        *arguments: str,
        program: Sequence[str] = (sys.executable, "-m", "app"),
        options: Mapping[str, Any] | None = None,
        **settings: str,
    ) -> None:
        """Start `program`, from the checkout unless `options` for subprocess say otherwise."""
        self.port = free_port()
        self.log_file = folder / "service.log"
        environment = clean_environment(**{"PORT": str(self.port), "SHUTDOWN_DELAY_S": "0.5", **settings})
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [*program, *arguments],
                env=environment, stdout=log, stderr=log, start_new_session=True, **{"cwd": ROOT, **(options or {})},
            )  # fmt: skip

    @property
    def log(self) -> str:
        return self.log_file.read_text()

    def request(
        self, method: str, path: str, body: Any = None, timeout: float = 60, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Any]:
        """The status and the decoded body of the answer."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", **(headers or {})}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=timeout) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def wait_until_ready(self, seconds: float = 120) -> None:
        """Wait for /ready to answer 200; fails with the log if it does not."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            try:
                if self.request("GET", "/ready", timeout=10)[0] == 200:
                    return
            except (OSError, HTTPException):  # also an answer that a killed worker has left half sent
                pass
            assert self.process.poll() is None, f"it ended:\n{self.log}"
            time.sleep(0.1)
        raise AssertionError(f"not ready after {seconds} s:\n{self.log}")

    def stop(self, number: int = signal.SIGINT) -> int:
        """Send a signal to the supervisor and wait for its exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout=120)

    def descendants(self) -> list[int]:
        """The pids of all processes below the supervisor, each after its parent's (Linux)."""
        parents = {pid: parent for pid in _pids() if (parent := _parent(pid)) is not None}
        found = [self.process.pid]
        for above in found:  # which grows meanwhile
            found += sorted(pid for pid, parent in parents.items() if parent == above)
        return found[1:]


@contextmanager
def running(folder: Path, *arguments: str, **settings: Any) -> Iterator[Service]:
    """A service that is ready, stopped at the end of the block if it still runs."""
    service = Service(folder, *arguments, **settings)
    try:
        service.wait_until_ready()
        yield service
    finally:
        if service.process.poll() is None:
            service.stop()


def is_alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not (Linux)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def command_line(pid: int) -> bytes:
    """The command of a process; empty if it has ended (Linux)."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _parent(pid: int) -> int | None:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None
