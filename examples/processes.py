"""Servers as processes, for as long as a block lasts."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]
# All that may name a database, blank: the environment overrides a .env, so neither can lead to a database in use.
NO_DATABASE = dict.fromkeys(
    (
        "DATABASE_URL",
        "DATABASE_URL_FILE",
        "DATABASE_READ_URL",
        "DATABASE_READ_URL_FILE",
        "DATABASE_DIRECT_URL",
        "DATABASE_DIRECT_URL_FILE",
        "DB_HOST",
    ),
    "",
)


def free_port(wanted: int = 0) -> int:
    """Return a free port of this machine: the wanted one if it is free."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            return free_port()
        return int(probe.getsockname()[1])


@contextmanager
def server(name: str, command: list[str], path: str, folder: Path, port: int = 0, **environment: str) -> Iterator[int]:
    """Run a server on a port (a free one if it is 0) until the block ends; a client in it sends what it still has.

    A Predlog keeps its database in the folder, whatever database the environment or a .env names.
    """
    port = port or free_port()
    address = {"-m gunicorn": [f"--bind=127.0.0.1:{port}"], "-m uvicorn": [f"--port={port}"]}
    arguments = [*command, *address.get(" ".join(command[:2]), [])]
    settings = {
        **NO_DATABASE,
        "PORT": str(port),
        "EMBEDDED_DATA_DIR": str(folder / "database"),
        "PYTHONPATH": str(ROOT / "client/src"),
    }
    with (folder / f"{name}.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            env={**os.environ, **settings, **environment},
            stdout=log,
            stderr=log,
        )
        try:
            _wait(name, process, port, path, Path(log.name))
            yield port
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)


def _wait(name: str, process: subprocess.Popen[bytes], port: int, path: str, log: Path) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        try:
            client = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            client.request("GET", path)
            if client.getresponse().status < 500:
                return
        except OSError:
            pass
        time.sleep(0.2)
    raise SystemExit(f"{name} did not start:\n{log.read_text()[-2000:]}")
