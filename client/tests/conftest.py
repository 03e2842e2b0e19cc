"""Fixtures: a service that misbehaves, clients that are quick about it, programs in processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

import predlog
from misbehaving import Service, wait_until
from predlog import delivery, lifecycle
from predlog.client_base import ClientBase

# Properties are no stopwatch: on a busy machine a single example may take long.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.load_profile("patient")


def pytest_configure() -> None:
    """A shell that starts the suite in the background leaves SIGINT ignored, which each program would inherit."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-table", action="store_true", help="write the table of hosts into README.md (tests/hosts)")


PATIENT = ("--timeout", "60")  # of the command line, for a busy machine
SOURCES = str(Path(__file__).resolve().parent.parent / "src")


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """And time-outs that even a busy machine does not reach, unless a test has its own; programs inherit them."""
    for name in ("PREDLOG_URL", "PREDLOG_API_KEY", "PREDLOG_DISABLED"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PREDLOG_LEDGER_DIR", str(tmp_path / "ledger"))
    for name in ("PREDLOG_TIMEOUT", "PREDLOG_EXIT_TIMEOUT"):
        monkeypatch.setenv(name, "30")
    for method in (ClientBase.flush, ClientBase.aflush):
        monkeypatch.setattr(method, "__defaults__", (30.0,))


def threads_of_clients() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("predlog-")]


@pytest.fixture(autouse=True)
def _no_thread_is_left(_no_settings_from_outside: None) -> Iterator[None]:
    """Else a client of this test could warn, draw a back-off or hold a lock in the next one."""
    yield
    for pipeline in list(lifecycle._running):
        pipeline.begin_close(0.0)
    wait_until(lambda: not threads_of_clients())


@pytest.fixture
def service() -> Iterator[Service]:
    service = Service()
    yield service
    service.stop()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Back-off in milliseconds."""
    monkeypatch.setattr(delivery, "INITIAL_BACKOFF", 0.02)
    monkeypatch.setattr(delivery, "MAX_BACKOFF", 0.1)
    monkeypatch.setattr(delivery, "INITIAL_BACKOFF_IF_MISCONFIGURED", 0.02)
    monkeypatch.setattr(delivery, "MAX_BACKOFF_IF_MISCONFIGURED", 0.1)


@pytest.fixture
def make_client(service: Service, quick: None) -> Iterator[Callable[..., predlog.Client]]:
    clients: list[predlog.Client] = []

    def make(url: str | None = None, **options: Any) -> predlog.Client:
        client = predlog.Client(url or service.url, **{"flush_interval": 0.05, **options})
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.close(0.2)


@pytest.fixture
def client(make_client: Callable[..., predlog.Client]) -> predlog.Client:
    return make_client()


class Program:
    """A Python program in a process of its own, that finds predlog and the service."""

    def __init__(self, directory: Path, url: str) -> None:
        self._directory = directory
        self._environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([SOURCES, str(directory)]),
            "PYTHONWARNINGS": "ignore",
            "PREDLOG_URL": url,
        }
        self._started: list[subprocess.Popen[str]] = []

    def write(self, name: str, source: str) -> Path:
        path = self._directory / name
        path.write_text(textwrap.dedent(source))
        return path

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        environment = {**self._environment, **options.pop("environment", {})}
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
        process = subprocess.Popen(
            [sys.executable, *arguments], env=environment, cwd=self._directory, start_new_session=True, **options
        )
        self._started.append(process)
        return process

    def run(self, source: str, *arguments: str, code: int = 0, **options: Any) -> str:
        """Run it to its end and return what it printed."""
        process = self.start(str(self.write("program.py", source)), *arguments, **options)
        out, errors = process.communicate(timeout=120)
        assert process.returncode == code, errors
        return out

    def stop(self) -> None:
        for process in self._started:
            if process.poll() is None:
                process.kill()
            process.communicate()


@pytest.fixture
def program(tmp_path: Path, service: Service) -> Iterator[Program]:
    directory = tmp_path / "program"
    directory.mkdir()
    program = Program(directory, service.url)
    yield program
    program.stop()
