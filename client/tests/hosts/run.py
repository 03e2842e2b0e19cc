"""Run a host, have it log, end it, and ask the service what it has."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hosts.service import ROOT, Service
from misbehaving import port_to_serve_at

APPS = Path(__file__).parent / "apps"
SOURCES = Path(__file__).resolve().parents[2] / "src"
PYTHONS = [sys.executable, str(ROOT / ".venv-hosts/bin/python")]
MAX_STARTUP = 120.0  # seconds
MAX_EXIT = 60.0


@dataclass(frozen=True)
class Host:
    """How a host is started and what it does.

    command: after `python`; `{port}`, `{stats}` and `{bin}` are filled in. needs: modules. sent: predictions that it
    logs. ready: the path that answers once it serves, or "" for a program that ends by itself. before, after: arguments
    of programs that run before it is started and once it has ended. in_terminal: all its processes get the signal, as
    by Ctrl-C. advice: what its user has to do. loses: whether some may be missing.
    """

    name: str
    command: str
    advice: str
    needs: tuple[str, ...] = ()
    sent: int = 300
    ready: str = "/health"
    path: str = "/"
    body: bytes | None = None
    before: str = ""
    after: str = ""
    ends: signal.Signals = signal.SIGTERM
    in_terminal: bool = False
    spool: bool = False
    loses: bool = False
    idles: Callable[[int], bool] | None = None  # by the port {stats}: waited for between the last answer and the signal


@dataclass(frozen=True)
class Result:
    """What came of it; seconds: from the signal, or the program's last prediction, to the end of its last process."""

    sent: int
    stored: int
    dropped: int
    seconds: float
    said: str


def python_for(host: Host) -> str | None:
    """An interpreter that has all that the host needs."""
    return python_with(*host.needs)


def python_with(*modules: str) -> str | None:
    """An interpreter that has these modules."""
    return next((python for python in PYTHONS if Path(python).exists() and _has(python, modules)), None)


@functools.cache
def _has(python: str, modules: tuple[str, ...]) -> bool:
    find = f"import importlib.util as u, sys; sys.exit(any(u.find_spec(name) is None for name in {modules!r}))"
    return subprocess.run([python, "-c", find]).returncode == 0


def run(host: Host, service: Service) -> Result:
    """Raises AssertionError with what the host printed, if it does not do its part."""
    python = python_for(host)
    assert python is not None
    model = f"host-{uuid.uuid4()}"
    with tempfile.TemporaryDirectory(prefix="predlog-host-") as folder:
        process = Process(host, python, service, model, Path(folder))
        try:
            seconds = process.live()
        finally:
            process.kill()
        stored, dropped = service.count(model)
        return Result(host.sent, stored, dropped, seconds, process.said())


class Process:
    """A host that runs."""

    def __init__(self, host: Host, python: str, service: Service, model: str, folder: Path) -> None:
        self._host = host
        self._python = python
        self._port, self._stats = port_to_serve_at(), port_to_serve_at()
        self._folder = folder
        self._log = folder / "log"
        self._environment = {
            **os.environ, "PYTHONPATH": os.pathsep.join([str(SOURCES), str(APPS)]), "PREDLOG_URL": service.url,
            "MODEL": model, "PORT": str(self._port), "SENT": str(host.sent), "FOLDER": str(folder),
            **({"SPOOL": str(folder / "spool")} if host.spool else {}),
        }  # fmt: skip
        # The client's own time-outs: what they are enough for is what the table says.
        for name in ("PREDLOG_DISABLED", "PREDLOG_TIMEOUT", "PREDLOG_EXIT_TIMEOUT"):
            self._environment.pop(name, None)
        self._main: subprocess.Popen[bytes] | None = None

    def live(self) -> float:
        """From start to end; the seconds that the end took."""
        if self._host.before:
            self._start(self._host.before).wait(MAX_STARTUP)
        self._main = self._start(self._host.command)
        if self._host.ready:
            self._serve()
        elif self._host.before:
            self._until(lambda: self._done() == self._host.sent)
        if (idles := self._host.idles) is not None:
            self._until(lambda: idles(self._stats))
        began = time.monotonic()
        if self._host.ready or self._host.before:
            (os.killpg if self._host.in_terminal else os.kill)(self._main.pid, self._host.ends)
        self._main.wait(MAX_EXIT)
        while _runs(self._main.pid) and time.monotonic() < began + MAX_EXIT:
            time.sleep(0.02)
        seconds = time.monotonic() - began
        logged = self._folder / "logged"
        if logged.exists():
            seconds = time.time() - logged.stat().st_mtime
        if self._host.after:
            self._start(self._host.after).wait(MAX_EXIT)
        return seconds

    def said(self) -> str:
        """The end of what the host printed."""
        return self._log.read_text(errors="replace")[-3000:] if self._log.exists() else ""

    def kill(self) -> None:
        """Return the rest of it."""
        if self._main is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._main.pid, signal.SIGKILL)
            self._main.wait()

    def _start(self, command: str) -> subprocess.Popen[bytes]:
        first, *words = command.format(port=self._port, stats=self._stats, bin=Path(self._python).parent).split()
        if first.endswith(".py"):
            first = str(APPS / first)
        if not first.startswith(str(Path(self._python).parent)):
            words, first = [first, *words], self._python
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [first, *words], env=self._environment, cwd=self._folder, stdout=log, stderr=log, start_new_session=True
            )

    def _serve(self) -> None:
        self._until(lambda: self._answers(self._host.ready, None) < 400)
        with ThreadPoolExecutor(4) as callers:
            statuses = list(
                callers.map(lambda _: self._answers(self._host.path, self._host.body), range(self._host.sent))
            )
        assert set(statuses) == {200}, f"{set(statuses)}\n{self._log.read_text()[-3000:]}"

    def _answers(self, path: str, body: bytes | None) -> int:
        """The status; 999 if nobody answers."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._port}{path}", body, {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                answer.read()
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code if path == self._host.path or error.code != 404 else 200
        except OSError:
            return 999

    def _until(self, condition: Any) -> None:
        until = time.monotonic() + MAX_STARTUP
        while not condition():
            assert self._main is not None
            assert self._main.poll() is None and time.monotonic() < until, self._log.read_text()[-3000:]
            time.sleep(0.1)

    def _done(self) -> int:
        """How many tasks a worker says it has done."""
        done = self._folder / "done"
        return len(done.read_text()) if done.exists() else 0


def _runs(group: int) -> bool:
    """Whether a process of the group is alive; one that is dead and not collected is not."""
    listed = subprocess.run(["ps", "-eo", "pgid=,stat="], capture_output=True, text=True, check=True).stdout
    return any(int(line.split()[0]) == group and "Z" not in line for line in listed.splitlines())
