"""Clients that send a byte now and then, or read so, or nothing at all: they hold no place, and not for ever."""

from __future__ import annotations

import json
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import create_engine

from app.server.idle_connections import SPARE
from conftest import Server
from support.service import Service, running

SLOW_CLIENTS = 60  # with 2 workers of 2 places each
TIMEOUT = 60.0  # seconds, for what takes a few
ESTABLISHED = "01"
RECORD = {"model_name": "slow", "duration_ms": 1, "was_successful": True}
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel when a connection was last heard of")


@pytest.fixture(scope="module")
def plain(servers: Callable[[str], Server]) -> Server:
    return servers("plain")


@pytest.fixture(scope="module")
def service(plain: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Few places, so that a slow client that held one would be missed at once."""
    with running(
        tmp_path_factory.mktemp("slow"), "--no-migrate",
        DATABASE_URL=plain.url, AUTH="none", WORKERS="2", THREADS="2", POOL_SIZE="2", MAX_CONCURRENT_BATCHES="1",
        REQUEST_TIMEOUT_S="600",
    ) as service:  # fmt: skip
        yield service


@pytest.fixture(scope="module")
def impatient(plain: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(
        tmp_path_factory.mktemp("impatient"), "--no-migrate",
        DATABASE_URL=plain.url, AUTH="none", WORKERS="1", THREADS="2", POOL_SIZE="2", REQUEST_TIMEOUT_S="4",
    ) as service:  # fmt: skip
        yield service


@pytest.fixture(scope="module")
def hasty(plain: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A client may be silent for much less time than a request may take."""
    with running(
        tmp_path_factory.mktemp("hasty"), "--no-migrate",
        DATABASE_URL=plain.url, AUTH="none", WORKERS="1", REQUEST_TIMEOUT_S="1", LOCK_TIMEOUT_MS="60000",
        STATEMENT_TIMEOUT_MS="60000", MAX_BODY_BYTES="1048576", MAX_CONCURRENT_BATCHES="1",
        ANSWER_MEMORY_BYTES="4194304",
    ) as service:  # fmt: skip
        yield service


@pytest.fixture(scope="module")
def narrow(plain: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(
        tmp_path_factory.mktemp("narrow"), "--no-migrate",
        DATABASE_URL=plain.url, AUTH="none", WORKERS="1", CONNECTIONS="16", REQUEST_TIMEOUT_S="600",
    ) as service:  # fmt: skip
        yield service


def head(method: str, path: str, length: int = 0, content_type: str = "application/json") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Content-Type: {content_type}"]
    return "\r\n".join([*lines, f"Content-Length: {length}", "", ""]).encode()


@contextmanager
def connections(service: Service, number: int, begin_with: bytes) -> Iterator[list[socket.socket]]:
    with ExitStack() as stack:
        opened = []
        for _ in range(number):
            opened.append(stack.enter_context(connect(service)))
            opened[-1].sendall(begin_with)
        yield opened


def connect(service: Service, receive_buffer: int | None = None) -> socket.socket:
    connection = socket.socket()
    if receive_buffer:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    connection.settimeout(TIMEOUT)
    connection.connect(("127.0.0.1", service.port))
    return connection


def is_open(service: Service, connection: socket.socket) -> bool:
    """Whether the service's end of a connection is open, whatever the client has read (Linux)."""
    ends = [f":{port:04X}" for port in (service.port, connection.getsockname()[1])]
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
    return any(row[3] == ESTABLISHED and [row[1][-5:], row[2][-5:]] == ends for row in rows)


def answer(connection: socket.socket) -> bytes:
    """All that comes until the server closes the connection."""
    received = b""
    try:
        while chunk := connection.recv(65536):
            received += chunk
    except ConnectionError:
        pass
    return received


def assert_served(service: Service) -> None:
    """Every kind of call is answered, several times over, so that each worker has had some."""
    for _ in range(10):
        assert service.request("GET", "/health", timeout=TIMEOUT)[0] == 200
        assert service.request("POST", "/api/v1/predict-log", RECORD, timeout=TIMEOUT)[0] == 200
        assert service.request("POST", "/api/v1/predict-logs", [RECORD], timeout=TIMEOUT)[0] == 200
        assert service.request("GET", "/api/v1/stats?model_name=slow", timeout=TIMEOUT)[0] == 200


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"POST /api/v1/predict-log HTTP/1.1\r\nHost: local",
        head("POST", "/api/v1/predict-log", 100) + b"{",
        head("POST", "/api/v1/predict-logs", 1_000_000) + b"[" * 100_000,
        head("POST", "/api/v1/predict-log", 100) + b'{"model_name": ',
    ],
    ids=["nothing", "half a header", "half a record", "half a batch", "a body"],
)
def test_others_are_served_while_many_have_sent_only(service: Service, sent: bytes) -> None:
    with connections(service, SLOW_CLIENTS, sent) as slow:
        assert_served(service)
        for connection in slow:  # a byte later they are still there, and are waited for
            connection.sendall(b" " if sent else b"G")
        assert_served(service)


def test_what_comes_slowly_is_taken_when_it_is_there(service: Service) -> None:
    body = json.dumps(RECORD).encode()
    with connections(service, 1, head("POST", "/api/v1/predict-log", len(body))) as (slow,):
        for byte in body:
            slow.sendall(bytes([byte]))
            time.sleep(0.01)
        assert slow.recv(65536).startswith(b"HTTP/1.1 200")


def test_others_are_served_while_many_do_not_read_their_answers(service: Service) -> None:
    request = head("GET", "/docs/assets/swagger-ui-bundle.js")
    with ExitStack() as stack:
        for _ in range(SLOW_CLIENTS):
            slow = stack.enter_context(connect(service, receive_buffer=4096))
            slow.sendall(request)
            assert slow.recv(12) == b"HTTP/1.1 200"
        assert_served(service)


@linux_only
@pytest.mark.parametrize(
    "sent",
    [b"", head("POST", "/api/v1/predict-log", 100) + b"{", head("GET", "/health")],
    ids=["nothing", "half a record", "a request"],
)
def test_a_client_that_falls_silent_is_cut_off(impatient: Service, sent: bytes) -> None:
    with connections(impatient, 1, sent) as (silent,):
        received = answer(silent)  # fails if it takes longer than TIMEOUT
    assert received[:12] in (b"", b"HTTP/1.1 200", b"HTTP/1.1 400")
    assert_served(impatient)


@linux_only
def test_a_client_that_waits_while_its_request_is_worked_on_is_answered(plain: Server, hasty: Service) -> None:
    engine, name = create_engine(plain.url), f"waiting-{uuid4()}"
    body = json.dumps(RECORD | {"model_name": name}).encode()
    with engine.connect() as locking, connect(hasty) as waiting:
        locking.exec_driver_sql("LOCK prediction_log IN ACCESS EXCLUSIVE MODE")
        waiting.sendall(head("POST", "/api/v1/predict-log", len(body)) + body)
        time.sleep(4)  # four times as long as a client may be silent
        locking.rollback()
        assert waiting.recv(65536).startswith(b"HTTP/1.1 200")
    engine.dispose()


@linux_only
def test_a_client_that_does_not_read_the_answer_is_cut_off(impatient: Service) -> None:
    with connect(impatient, receive_buffer=4096) as slow:
        slow.sendall(head("GET", large_list(impatient)))
        until = time.monotonic() + TIMEOUT
        while is_open(impatient, slow):
            assert time.monotonic() < until
            time.sleep(0.1)
        received = answer(slow)
    assert received.startswith(b"HTTP/1.1 200")
    assert len(received) < 2**19, "of a megabyte, what the system has taken to send at first"


def test_a_large_answer_does_not_wait_for_a_body_that_nobody_reads(service: Service) -> None:
    """It would hold its memory meanwhile."""
    path = large_list(service)
    with connections(service, 4, head("GET", path, 100)) as slow:
        for connection in slow:
            header, _, body = answer(connection).partition(b"\r\n\r\n")
            assert b"connection: close" in header.lower()
            assert len(json.loads(body)) > 100


@linux_only
def test_a_client_that_reads_a_byte_now_and_then_is_cut_off_whatever_it_sends(impatient: Service) -> None:
    with connect(impatient, receive_buffer=4096) as slow:
        slow.sendall(head("GET", large_list(impatient)))
        until = time.monotonic() + TIMEOUT
        with pytest.raises(ConnectionError):
            while True:
                assert slow.recv(1)
                slow.sendall(b"G")
                assert time.monotonic() < until
                time.sleep(0.2)
    assert_served(impatient)


@linux_only
def test_a_client_that_reads_steadily_may_read_for_longer_than_it_may_be_silent(impatient: Service) -> None:
    with connect(impatient, receive_buffer=4096) as steady:
        steady.sendall(head("GET", large_list(impatient)))
        began, received = time.monotonic(), b""
        while not received.endswith(b"]\n"):
            chunk = steady.recv(8192)
            assert chunk, "cut off"
            received += chunk
            if time.monotonic() - began < 10:
                time.sleep(0.05)
    assert len(json.loads(received.partition(b"\r\n\r\n")[2])) > 100


def large_list(service: Service) -> str:
    """Return the path of a megabyte of records."""
    large = RECORD | {"model_name": f"large-{uuid4()}", "error": "x" * 4096, "metadata": {"x": "x" * 4000}}
    assert service.request("POST", "/api/v1/predict-logs", [large] * 200, timeout=TIMEOUT)[0] == 200
    return f"/api/v1/predictions?limit=1000&model_name={large['model_name']}"


@linux_only
@pytest.mark.parametrize(
    "sent",
    [
        b"",
        head("GET", "/health"),
        b"GET /health HTTP/1.1\r\nHost: local",
        head("POST", "/api/v1/predict-log", 9) + b"{",
    ],
    ids=["nothing", "a request", "half a header", "half a record"],
)
def test_others_are_served_beside_more_connections_than_a_worker_may_hold(narrow: Service, sent: bytes) -> None:
    with connections(narrow, 16 + 2 * SPARE, sent):
        time.sleep(1)
        assert_served(narrow)


def test_a_body_that_takes_too_long_is_answered_408(impatient: Service) -> None:
    with connections(impatient, 1, head("POST", "/api/v1/predict-log", 10_000) + b"{") as (slow,):
        slow.settimeout(0.05)
        received, until = b"", time.monotonic() + TIMEOUT
        while not received:
            assert time.monotonic() < until
            slow.sendall(b" " * 8)
            try:
                received = slow.recv(65536)
            except TimeoutError:
                continue
    assert received.startswith(b"HTTP/1.1 408")
    assert json.loads(received.partition(b"\r\n\r\n")[2])["code"] == 408


@linux_only
def test_bodies_that_stop_almost_wholly_keep_their_memory_from_others_for_a_limited_time(hasty: Service) -> None:
    """The server waits in one read for as long as a byte comes now and then."""
    with connections(hasty, 2, head("POST", "/api/v1/predict-logs", 2**20) + b"[" * 1_000_000) as slow:
        until = time.monotonic() + TIMEOUT
        while any(is_open(hasty, connection) for connection in slow):
            assert time.monotonic() < until
            for connection in slow:
                with suppress(ConnectionError):
                    connection.sendall(b" ")
            time.sleep(0.2)
    batch = [RECORD | {"error": "x" * 4000}] * 150
    while hasty.request("POST", "/api/v1/predict-logs", batch, timeout=TIMEOUT)[0] != 200:
        assert time.monotonic() < until
        time.sleep(0.1)


def test_a_body_that_ends_too_early_is_not_taken_for_a_whole_one(service: Service) -> None:
    lines = b'{"model_name": "cut", "duration_ms": 1, "was_successful": true}\n'
    request = head("POST", "/api/v1/predict-logs", len(lines) + 10, "application/x-ndjson")
    with connections(service, 1, request + lines) as (cut,):
        cut.shutdown(socket.SHUT_WR)
        answer(cut)
    time.sleep(0.5)
    assert service.request("GET", "/api/v1/stats?model_name=cut")[1]["total_requests"] == 0
