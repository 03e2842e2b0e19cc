"""Bodies that are cut, or refused before they are read: none of the one is stored, the other breaks no connection."""

from __future__ import annotations

import gzip
import json
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from uuid import uuid4

import pytest

from conftest import Server
from support.service import Service, running

TIMEOUT = 30.0
NDJSON, JSON = "application/x-ndjson", "application/json"


@pytest.fixture(scope="module")
def service(servers: Callable[[str], Server], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(
        tmp_path_factory.mktemp("cut"), "--no-migrate", DATABASE_URL=servers("plain").url, WORKERS="1"
    ) as service:
        yield service


def record(model: str) -> bytes:
    return json.dumps({"model_name": model, "duration_ms": 1, "was_successful": True}).encode()


def head(path: str, *headers: str, method: str = "POST") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: localhost", *headers, "", ""]).encode()


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def connect(service: Service) -> socket.socket:
    return socket.create_connection(("127.0.0.1", service.port), timeout=TIMEOUT)


class Answers:
    """The answers that come on one connection, one after the other."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection, self._received = connection, b""

    def next(self) -> tuple[int, bytes]:
        """The status and the header of the next answer, (0, b"") if the server closes the connection instead."""
        while b"\r\n\r\n" not in self._received and self._more():
            pass
        header, _, rest = self._received.partition(b"\r\n\r\n")
        if not header:
            return 0, b""
        length = int(header.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        while len(rest) < length and self._more():
            rest = self._received.partition(b"\r\n\r\n")[2]
        self._received = rest[length:]
        return int(header.split()[1]), header.lower()

    def _more(self) -> bool:
        with suppress(ConnectionError):
            self._received += (part := self._connection.recv(65536))
            return bool(part)
        return False


def chunked(service: Service, content_type: str, frames: bytes, *headers: str, hang_up: bool = False) -> int:
    """Send a batch in chunks; the status of the answer."""
    with connect(service) as connection:
        begin = head("/api/v1/predict-logs", f"Content-Type: {content_type}", "Transfer-Encoding: chunked", *headers)
        connection.sendall(begin + frames)
        if hang_up:
            connection.shutdown(socket.SHUT_WR)
        return Answers(connection).next()[0]


def stored(service: Service, model: str) -> int:
    return int(service.request("GET", f"/api/v1/stats?model_name={model}")[1]["total_requests"])


@pytest.mark.parametrize(
    ("end", "hang_up"),
    [
        (b"xyz\r\n", False),
        (b"-1\r\n", False),
        (b"ffffffffffffffffffffff\r\n", False),
        (b"", True),
        (b"5", True),
        (b"fff\r\n{", True),
        (b"5\r\nabcdefghij\r\n0\r\n\r\n", False),
    ],
    ids=["no number", "negative", "too large", "no last chunk", "half a length", "half a chunk", "longer than it says"],
)
def test_chunked_ndjson_that_breaks_off_after_a_whole_line_is_400_and_stores_nothing(
    service: Service, end: bytes, hang_up: bool
) -> None:
    model = f"cut-{uuid4()}"
    lines = chunk(record(model) + b"\n") + chunk(record(model) + b"\n")
    assert chunked(service, NDJSON, lines + end, hang_up=hang_up) == 400
    assert stored(service, model) == 0


@pytest.mark.parametrize("ending", [b"", b"\n"])
def test_chunked_ndjson_that_does_not_show_its_end_is_400(service: Service, ending: bytes) -> None:
    model = f"cut-{uuid4()}"
    assert chunked(service, NDJSON, chunk(record(model) + ending) + b"0\r\n\r\n") == 400
    assert stored(service, model) == 0


@pytest.mark.parametrize("ending", [b"\n\n", b"\r\n\r\n", b"\n\r\n"])
def test_chunked_ndjson_that_ends_with_an_empty_line_is_taken(service: Service, ending: bytes) -> None:
    model = f"whole-{uuid4()}"
    frames = chunk(record(model) + b"\n") + chunk(record(model) + ending) + b"0\r\n\r\n"
    assert chunked(service, NDJSON, frames) == 200
    assert stored(service, model) == 2


@pytest.mark.parametrize("content_type", [NDJSON, JSON])
def test_a_chunked_body_that_shows_its_end_is_taken_whole_and_refused_cut(service: Service, content_type: str) -> None:
    model = f"whole-{uuid4()}"
    array = b"[" + record(model) + b"," + record(model) + b"]"
    body = array if content_type == JSON else gzip.compress(record(model) + b"\n" + record(model) + b"\n")
    header = "Accept: */*" if content_type == JSON else "Content-Encoding: gzip"
    half = chunk(body[: len(body) // 2])
    assert chunked(service, content_type, half, header, hang_up=True) == 400
    assert chunked(service, content_type, half + b"xyz\r\n", header) == 400
    assert stored(service, model) == 0
    assert chunked(service, content_type, half + chunk(body[len(body) // 2 :]) + b"0\r\n\r\n", header) == 200
    assert stored(service, model) == 2


REFUSED = {
    "415": head("/api/v1/predict-log", "Content-Type: text/plain", "Content-Length: 100000"),
    "404": head("/nope", "Content-Length: 100000"),
    "405": head("/api/v1/stats", "Content-Length: 100000"),
    "403": head("/api/v1/predict-log", f"Content-Type: {JSON}", "Content-Length: 100000", "X-Forwarded-For: 1.2.3.4"),
    "400": head("/api/v1/predict-log", f"Content-Type: {JSON}", "Content-Encoding: gzip", "Content-Length: 100000"),
    "200": head("/health", "Content-Length: 100000", method="GET"),
}
NEXT = head("/api/v1/predict-log", f"Content-Type: {JSON}", f"Content-Length: {len(record('next'))}") + record("next")


@pytest.mark.parametrize("status", REFUSED)
def test_a_body_that_is_not_wanted_does_not_break_the_next_call_on_the_connection(
    service: Service, status: str
) -> None:
    with connect(service) as connection:
        answers = Answers(connection)
        for _ in range(3):
            connection.sendall(REFUSED[status] + b"x" * 1000)
            connection.sendall(b"x" * 99_000)
            assert answers.next()[0] == int(status)
            connection.sendall(NEXT)
            assert answers.next()[0] == 200


@pytest.mark.parametrize(
    "headers", [["Content-Length: 50000000"], ["Content-Length: 100", "Expect: 100-continue"]], ids=["huge", "asks"]
)
def test_a_body_that_is_not_wanted_is_not_waited_for_if_it_is_huge_or_announced(
    service: Service, headers: list[str]
) -> None:
    with connect(service) as connection:
        connection.sendall(head("/nope", *headers))
        status, header = Answers(connection).next()
        assert status == 404
        assert b"connection: close" in header
