"""Databases for the benchmarks, and the service on one of them."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg2
from psycopg2.extensions import connection as Connection
from sqlalchemy.engine import URL, make_url

from app.infrastructure.embedded import EmbeddedPostgres
from examples.processes import NO_DATABASE


@contextmanager
def server(engine: str) -> Iterator[URL]:
    """The server to measure on: the one in DATABASE_URL for `timescale`, an embedded one for `plain`."""
    if engine == "timescale":
        yield make_url(os.environ["DATABASE_URL"]).set(drivername="postgresql")
        return
    with tempfile.TemporaryDirectory(prefix="predlog-benchmark-") as folder:
        os.chmod(folder, 0o755)  # if root starts the server, it runs as another user
        with EmbeddedPostgres(Path(folder, "data")) as embedded:
            yield make_url(embedded.url).set(drivername="postgresql", query={})


@contextmanager
def database(admin: URL, name: str) -> Iterator[str]:
    """A database of that name, made anew and dropped at the end; yields its URL."""
    with connect(text(admin)) as connection:
        connection.cursor().execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        connection.cursor().execute(f"CREATE DATABASE {name}")
    try:
        yield text(admin.set(database=name))
    finally:
        with connect(text(admin)) as connection:
            connection.cursor().execute(f"DROP DATABASE {name} WITH (FORCE)")


def text(url: URL) -> str:
    """The URL with its password."""
    return url.render_as_string(hide_password=False)


@contextmanager
def connect(dsn: str) -> Iterator[Connection]:
    """A connection in autocommit."""
    connection = psycopg2.connect(dsn)
    connection.autocommit = True
    try:
        yield connection
    finally:
        connection.close()


def migrate(dsn: str) -> None:
    """Bring the database to the newest schema."""
    command = [sys.executable, "-m", "flask", "--app", "wsgi", "db", "upgrade"]
    subprocess.run(
        command, env={**os.environ, **NO_DATABASE, "DATABASE_URL": dsn}, check=True, stderr=subprocess.DEVNULL
    )


@contextmanager
def service(dsn: str, workers: int) -> Iterator[int]:
    """The service as `python -m app` runs it, with its default settings; yields its port."""
    port = free_port()
    environment = {**os.environ, **NO_DATABASE, "DATABASE_URL": dsn, "PORT": str(port), "WORKERS": str(workers)}
    with running([sys.executable, "-m", "app", "--no-migrate"], environment, port, "/ready"):
        yield port


@contextmanager
def running(
    command: list[str], environment: dict[str, str], port: int, path: str, folder: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server in a folder, from when `path` answers 200 until the end of the block."""
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    with stopped(process):
        _wait(port, path)
        yield process


@contextmanager
def stopped(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Stop the process, the leader of a session, at the end of the block."""
    try:
        yield
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def free_port() -> int:
    """A port on loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(port: int, path: str) -> None:
    for _ in range(1200):
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            client.request("GET", path)
            if client.getresponse().status == 200:
                return
        except OSError:
            pass
        finally:
            client.close()
        time.sleep(0.1)
    raise SystemExit(f"nothing that answers {path} has come up on port {port}")
