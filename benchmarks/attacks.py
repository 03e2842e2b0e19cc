"""Attacks by one caller on the others, for the fault tests and `benchmarks.siege`."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from benchmarks.common import connect

LARGE, PREDICTIONS = 1000, 1_000_000
# 12 KB of JSON each: the metadata, and an error of two bytes a letter.
FILL_LARGE = """
INSERT INTO prediction_log (timestamp, model_name, duration_ms, was_successful, error, metadata)
SELECT now() - g * INTERVAL '1 second', 'large', 1, false, repeat('я', 4096), json_build_object('x', repeat('x', 4080))
FROM   generate_series(1, %(rows)s) AS g
"""
FILL_PREDICTIONS = """
INSERT INTO prediction_log (timestamp, model_name, duration_ms, was_successful)
SELECT now() - g * INTERVAL '100 milliseconds', 'model_' || g %% 20, 1 + random() * 50, random() > 0.02
FROM   generate_series(1, %(rows)s) AS g
"""
LARGE_LIST = "/api/v1/predictions?limit=1000&model_name=large"
SLOW_LIST = "/api/v1/predictions?min_duration_ms=1e9"
RECORD = {"model_name": "written", "duration_ms": 1, "was_successful": True}
READERS, UNREAD, FLOOD, IDLE = 32, 60, 64, 1200
TIMEOUT_S = 30.0
PAGE = os.sysconf("SC_PAGE_SIZE")


def fill(dsn: str, large: int = LARGE, predictions: int = PREDICTIONS) -> None:
    """Insert predictions without the service; the aggregates leave them out."""
    with connect(dsn) as connection, connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        cursor.execute(FILL_PREDICTIONS, {"rows": predictions})
        cursor.execute(FILL_LARGE, {"rows": large})
        cursor.execute("VACUUM ANALYZE prediction_log")


def get(path: str) -> bytes:
    """A request as it is sent."""
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def dial(port: int, receive_buffer: int | None = None) -> socket.socket:
    """A connection to the service."""
    connection = socket.socket()
    if receive_buffer:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    connection.settimeout(TIMEOUT_S)
    connection.connect(("127.0.0.1", port))
    return connection


def read_all_at_once(port: int, path: str, readers: int) -> Counter[int]:
    """Let so many readers send the same request at the same time and read it; return the statuses of the answers."""
    statuses: Counter[int] = Counter()

    def read() -> None:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=120)) as connection:
            connection.request("GET", path)
            response = connection.getresponse()
            response.read()
            statuses[response.status] += 1

    threads = [threading.Thread(target=read) for _ in range(readers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return statuses


@contextmanager
def unread(port: int, path: str, number: int) -> Iterator[list[socket.socket]]:
    """Hold so many connections that have sent a request and read only the first bytes of the answer."""
    with ExitStack() as stack:
        opened = [stack.enter_context(dial(port, receive_buffer=4096)) for _ in range(number)]
        for connection in opened:
            connection.sendall(get(path))
        for connection in opened:
            connection.recv(12)
        yield opened


def trickle(port: int, path: str, max_s: float) -> float:
    """Read an answer byte by byte, and send as many; return the seconds until the service closes the connection."""
    began = time.monotonic()
    with dial(port, receive_buffer=4096) as connection:
        connection.sendall(get(path))
        while time.monotonic() - began < max_s:
            try:
                if not connection.recv(1):
                    break
                connection.sendall(b"G")
            except OSError:
                break
            time.sleep(0.5)
    return time.monotonic() - began


@contextmanager
def idle(port: int, number: int) -> Iterator[None]:
    """Hold so many connections; each accepted one has had one answer."""
    with ExitStack() as stack:
        opened = [stack.enter_context(dial(port)) for _ in range(number)]
        for connection in opened:
            connection.setblocking(False)
            try:
                connection.sendall(get("/health"))
            except OSError:  # closed already, to make room
                continue
        time.sleep(2)
        yield


@contextmanager
def flood(port: int, path: str, connections: int) -> Iterator[None]:
    """Let so many keep-alive connections send requests without a pause during the block."""
    ending = threading.Event()

    async def ask() -> None:
        while not ending.is_set():
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                while not ending.is_set():
                    writer.write(get(path))
                    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), TIMEOUT_S)
                    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
                    await reader.readexactly(int(length.partition(b":")[2]))
            except (OSError, EOFError, asyncio.TimeoutError):
                await asyncio.sleep(0.1)
            finally:
                writer.close()

    async def ask_all() -> None:
        await asyncio.gather(*(ask() for _ in range(connections)))

    thread = threading.Thread(target=lambda: asyncio.run(ask_all()))
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join()


def write(port: int, seconds: float) -> tuple[list[float], Counter[int]]:
    """Log a prediction ten times a second; return the seconds of each, and the statuses of the answers."""
    took, statuses = [], Counter[int]()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        began = time.monotonic()
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)) as connection:
            connection.request("POST", "/api/v1/predict-log", json.dumps(RECORD), {"Content-Type": "application/json"})
            response = connection.getresponse()
            response.read()
            statuses[response.status] += 1
        took.append(time.monotonic() - began)
        time.sleep(0.1)
    return took, statuses


def health(port: int, times: int, timeout_s: float) -> list[float | None]:
    """Return the seconds until /health has answered each new connection; None if it has not in time."""
    took: list[float | None] = []
    for _ in range(times):
        began = time.monotonic()
        try:
            with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)) as connection:
                connection.request("GET", "/health")
                connection.getresponse().read()
            took.append(time.monotonic() - began)
        except OSError:
            took.append(None)
    return took


class Memory(threading.Thread):
    """Measures the peak memory of a tree of processes, in bytes above its memory at the start."""

    def __init__(self, root: int) -> None:
        super().__init__(daemon=True)
        self._root, self._ending = root, threading.Event()
        self._first = self.most = resident(root)

    def __enter__(self) -> Memory:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self.join()
        self.grown = self.most - self._first

    def run(self) -> None:
        while not self._ending.wait(0.02):
            self.most = max(self.most, resident(self._root))


def resident(root: int) -> int:
    """Return the bytes that a process and its descendants have in memory (Linux)."""
    parents, sizes = {}, {}
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit():
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                sizes[int(entry.name)] = int((entry / "statm").read_text().split()[1]) * PAGE
        except OSError:
            continue
    found, grew = {root}, True
    while grew:
        more = {pid for pid, parent in parents.items() if parent in found} - found
        found |= more
        grew = bool(more)
    return sum(sizes.get(pid, 0) for pid in found)
