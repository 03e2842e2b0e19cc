"""What the servers in front of the application make of a request: raw bytes, sent to a real one."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine

from app.application.keys import Keys
from app.domain.keys import Scope
from app.infrastructure.key_store import PostgresKeyStore
from app.infrastructure.postgres.database import Database
from conftest import Server
from support.ports import free_port
from support.service import ROOT, clean_environment, running

TIMEOUT = 60
ASKED = "/api/v1/predictions/0"  # answered 422 to every allowed client, without the database


@pytest.fixture(scope="module")
def plain(servers: Callable[[str], Server]) -> Server:
    return servers("plain")


@pytest.fixture(scope="module")
def key(plain: Server) -> Iterator[str]:
    """A key that reads; there is none afterwards."""
    storage = Database(plain.url, pool_size=1)
    yield Keys(PostgresKeyStore(storage)).create("reader", Scope.READ)[1]
    storage.engine.dispose()
    engine: Engine = create_engine(plain.url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql("DELETE FROM api_key")
    engine.dispose()


@pytest.fixture(scope="module")
def granian(plain: Server, key: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    folder = tmp_path_factory.mktemp("granian")
    with running(folder, "--no-migrate", DATABASE_URL=plain.url, WORKERS="1", POOL_SIZE="2") as service:
        yield service.port


@pytest.fixture(scope="module")
def gunicorn(plain: Server, key: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with _gunicorn(plain.url, tmp_path_factory.mktemp("gunicorn") / "log") as port:
        yield port


@contextmanager
def _gunicorn(url: str, log_file: Path) -> Iterator[int]:
    port = free_port()
    with log_file.open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}", "--threads", "2", "wsgi:app"],
            cwd=ROOT, env=clean_environment(DATABASE_URL=url, POOL_SIZE="2"), stdout=log, stderr=log,
        )  # fmt: skip
    try:
        until = time.monotonic() + TIMEOUT
        while not send(port, get("/health")).startswith(b"HTTP/1.1 200"):
            assert server.poll() is None and time.monotonic() < until, log_file.read_text()
            time.sleep(0.1)
        yield port
    finally:
        server.terminate()
        server.wait(TIMEOUT)


def get(path: str, *headers: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: localhost", *headers, "Connection: close", "", ""]).encode()


def send(port: int, request: bytes) -> bytes:
    """All that comes back until the server closes."""
    answer = b""
    with suppress(ConnectionError), socket.create_connection(("127.0.0.1", port), TIMEOUT) as connection:
        connection.sendall(request)
        while part := connection.recv(65_536):
            answer += part
    return answer


def status(port: int, *headers: str) -> int:
    return int(send(port, get(ASKED, *headers)).split()[1])


@pytest.mark.parametrize("server", ["granian", "gunicorn"])
def test_a_key_is_taken_in_either_header_whatever_the_case_of_its_name(
    request: pytest.FixtureRequest, key: str, server: str
) -> None:
    port = request.getfixturevalue(server)
    for header in (f"X-API-Key: {key}", f"x-api-key: {key}", f"Authorization: Bearer {key}"):
        assert status(port, header) == 422
    assert status(port) == 401


@pytest.mark.parametrize("name", ["X_API_KEY", "x_api_key", "X-API_Key", "X_API-Key"])
def test_a_header_with_an_underscore_is_no_key_under_gunicorn(gunicorn: int, key: str, name: str) -> None:
    assert status(gunicorn, f"{name}: {key}") == 401


@pytest.mark.xfail(reason="granian joins both spellings to one name before Python sees a header", strict=True)
@pytest.mark.parametrize("name", ["X_API_KEY", "x_api_key", "X-API_Key", "X_API-Key"])
def test_a_header_with_an_underscore_is_no_key_under_granian(granian: int, key: str, name: str) -> None:
    assert status(granian, f"{name}: {key}") == 401


@pytest.mark.parametrize("server", ["granian", "gunicorn"])
def test_two_hosts_or_none_are_not_the_services(request: pytest.FixtureRequest, server: str) -> None:
    port = request.getfixturevalue(server)
    for hosts in ("", "Host: localhost\r\nHost: evil.example.com\r\n", "Host: localhost, evil.example.com\r\n"):
        answer = send(port, f"GET / HTTP/1.1\r\n{hosts}Connection: close\r\n\r\n".encode())
        assert int(answer.split()[1]) in (400, 403)


@pytest.mark.parametrize(
    ("request_bytes", "code"),
    [
        (b"GARBAGE\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost : localhost\r\n\r\n", 400),
        (b"POST /api/v1/predict-log HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n", 400),
        (get("/" + "a" * 70_000), 414),
        (get("/", *(f"X-{n}: 1" for n in range(300))), 431),
        (get("/", f"X: {'a' * 600_000}"), 431),
    ],
    ids=["garbage", "header", "length", "address", "many headers", "long header"],
)
def test_invalid_http_gets_an_empty_error_and_the_next_request_is_answered(
    granian: int, request_bytes: bytes, code: int
) -> None:
    answer = send(granian, request_bytes)
    if answer:  # nothing, if the connection was reset while the rest was being sent
        head, _, body = answer.partition(b"\r\n\r\n")
        assert int(head.split()[1]) == code
        assert b"connection: close" in head.lower()
        assert body == b""
    assert send(granian, get("/health")).startswith(b"HTTP/1.1 200")
