"""Ways to a service, and what check() says of them."""

from __future__ import annotations

import base64
import re
import shutil
import socket
import socketserver
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import predlog
from conftest import Program
from misbehaving import Handler, Service, free_port
from predlog import checking
from predlog.connecting import Route


def log_one(url: str | None, **options: Any) -> None:
    with predlog.Client(url, **options) as client:
        client.log("m", duration_ms=1, was_successful=True)
        assert client.flush(30)


class Proxy(socketserver.ThreadingTCPServer):
    """Passes on to one service whatever it is asked for, and keeps the head of each request."""

    daemon_threads = True

    def __init__(self, service: Service) -> None:
        self.service = service
        self.heads: list[str] = []
        super().__init__(("127.0.0.1", 0), Pass)
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()


class Pass(socketserver.BaseRequestHandler):
    server: Proxy

    def handle(self) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += self.request.recv(65536)
        self.server.heads.append(head.decode("latin-1"))
        with socket.create_connection(("127.0.0.1", self.server.service.server_port)) as there:
            if head.startswith(b"CONNECT"):
                self.request.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            else:
                there.sendall(head.replace(b"http://logs.internal", b"", 1))
            threading.Thread(target=self.copy, args=(self.request, there), daemon=True).start()
            self.copy(there, self.request)

    def copy(self, source: Any, target: Any) -> None:
        try:
            while data := source.recv(65536):
                target.sendall(data)
        except OSError:
            pass


@pytest.fixture
def proxy(service: Service) -> Iterator[Any]:
    proxy = Proxy(service)
    yield proxy
    proxy.shutdown()
    proxy.server_close()


def certificate(folder: Any, name: str, *more: Any) -> Any:
    key, path = str(folder / f"{name}.key"), str(folder / f"{name}.pem")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", path),
            *("-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}", "-days", "2", *more),
        ],
        check=True,
        capture_output=True,
    )
    return path, key


def test_headers_of_ones_own_are_sent_along(service: Service) -> None:
    log_one(service.url, headers={"X-Team": "prices"}, api_key="key")
    headers = service.requests[0]["headers"]
    assert headers["X-Team"] == "prices" and headers["Authorization"] == "Bearer key"


def test_a_proxy_is_asked_for_the_service_by_its_whole_url(service: Service, proxy: Any) -> None:
    log_one("http://logs.internal/a", proxy=f"http://user:p%40ss@127.0.0.1:{proxy.server_address[1]}")
    assert len(service.records) == 1 and service.requests[0]["path"].startswith("/a/api/v1/")
    (head,) = proxy.heads
    assert head.startswith("POST http://logs.internal/a/api/v1/")
    assert "Host: logs.internal\r\n" in head
    assert f"Proxy-Authorization: Basic {base64.b64encode(b'user:p@ss').decode()}" in head


needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificates")


@needs_openssl
def test_https_goes_through_a_tunnel_with_certificates_of_both_sides(
    service: Service, proxy: Any, tmp_path: Path
) -> None:
    server, client = certificate(tmp_path, "logs.internal"), certificate(tmp_path, "client")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*server)
    context.load_verify_locations(client[0])
    context.verify_mode = ssl.CERT_REQUIRED
    service.socket = context.wrap_socket(service.socket, server_side=True)
    way = {"proxy": f"http://user:secret@127.0.0.1:{proxy.server_address[1]}", "ca_file": server[0], "timeout": 30}
    assert not predlog.Client("https://logs.internal", **way).check()
    log_one("https://logs.internal", client_certificate=client[0], client_key=client[1], **way)
    assert len(service.records) == 1
    assert proxy.heads[-1].startswith("CONNECT logs.internal:443") and "Basic" in proxy.heads[-1]


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="this system has no unix sockets")
def test_a_service_is_reached_over_a_unix_socket(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class UnixServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
        daemon_threads = True

    UnixHandler = type("UnixHandler", (Handler,), {"disable_nagle_algorithm": False})
    monkeypatch.chdir(tmp_path)  # a path of a socket may be a hundred bytes long
    server = UnixServer("logs.sock", UnixHandler)
    for name in ("mood", "moods", "requests", "api_key", "most_records", "lock", "store", "note_dropped"):
        setattr(server, name, getattr(service, name))
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    log_one(None, unix_socket="logs.sock")
    server.shutdown()
    server.server_close()
    assert len(service.records) == 1 and service.requests[0]["headers"]["Host"] == "localhost"


def test_check_says_that_all_is_well(service: Service) -> None:
    check = predlog.Client(service.url).check()
    assert check and "takes records" in str(check) and not service.records


@pytest.mark.parametrize(
    ("mood", "words"),
    [
        (401, "valid API key"),
        (403, "write scope"),
        (404, "no Predlog service"),
        (503, "503"),
        ("page", "check the URL"),
    ],
)
def test_check_returns_the_problem_in_words(service: Service, mood: str, words: Any) -> None:
    service.mood = mood
    check = predlog.Client(service.url, api_key="secret").check()
    assert not check and words in check.text and "secret" not in check.text


def test_no_password_is_in_what_a_debugger_shows_of_the_options(service: Service) -> None:
    client = predlog.Client(service.url, proxy="http://user:secret@proxy:3128", headers={"X-Key": "secret"})
    shown = repr(client) + repr(client._settings) + repr(Route.of(client._settings))
    assert "secret" not in shown


def test_check_says_that_nobody_is_there() -> None:
    with free_port() as port:
        assert "cannot be reached: ConnectionRefused" in predlog.Client(f"http://127.0.0.1:{port}").check().text
    assert predlog.Client(enabled=False).check()


@pytest.mark.parametrize(("shift", "words"), [(3600, "ahead of"), (-3600, "behind")])
def test_check_tells_a_clock_that_is_wrong(
    service: Service, monkeypatch: pytest.MonkeyPatch, shift: Any, words: Any
) -> None:
    now = time.time
    monkeypatch.setattr(checking, "time", type("Time", (), {"time": staticmethod(lambda: now() + shift)}))
    check = predlog.Client(service.url).check()
    found = re.search(f"clock is ([0-9]+) s {words}", check.text)  # and the service tells whole seconds
    assert not check and found is not None and abs(int(found[1]) - 3600) < 30


def test_a_proxy_for_the_command_line_comes_from_the_environment(
    service: Service, proxy: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from predlog.cli.main import main

    monkeypatch.setenv("PREDLOG_PROXY", f"http://127.0.0.1:{proxy.server_address[1]}")
    assert main(["stats", "--url", "http://logs.internal"]) == 0
    assert "1,234" in capsys.readouterr().out and proxy.heads


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
def test_https_is_spoken_and_the_certificate_checked(program: Program, service: Service, tmp_path: Path) -> None:
    key, certificate = str(tmp_path / "key.pem"), str(tmp_path / "certificate.pem")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate),
            *("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"),
        ],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    service.socket = context.wrap_socket(service.socket, server_side=True)
    source = """
        import predlog
        with predlog.Client() as log:
            log.log("m", duration_ms=1, was_successful=True)
    """
    secure = {"PREDLOG_URL": service.url.replace("http:", "https:")}
    program.run(source, environment={**secure, "PREDLOG_EXIT_TIMEOUT": "1"})
    assert not service.records
    program.run(source, environment={**secure, "SSL_CERT_FILE": certificate})
    assert len(service.records) == 1
