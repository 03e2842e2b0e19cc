"""HOST may be a name or an address of either kind, and the printed URL can be clicked."""

from __future__ import annotations

import re
import socket
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.server import listening
from config import ConfigurationError
from support.ports import free_port
from support.service import Service


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
            return True
    except OSError:
        return False


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("localhost", "127.0.0.1"),
        ("127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "0.0.0.0"),
        pytest.param("::1", "::1", marks=needs_ipv6),
        pytest.param("[::1]", "::1", marks=needs_ipv6),
        pytest.param("::", "::", marks=needs_ipv6),
    ],
)
def test_a_host_is_an_address_or_a_name_of_one(host: str, address: str) -> None:
    assert listening.address(host, free_port()) == address


@pytest.mark.parametrize(
    "host", ["no-such-host.invalid", "http://127.0.0.1", "127.0.0.1:8000", "a" * 300, "a..b", "[::1", "é.invalid"]
)
def test_what_does_not_resolve_is_refused_with_a_sentence(host: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^HOST .* is neither an address nor a name that resolves to one$"):
        listening.address(host, 8000)


def test_the_address_of_another_machine_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"HOST 192\.0\.2\.7 is no address of this machine"):
        listening.address("192.0.2.7", free_port())


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_port_in_use_is_named(host: str) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"PORT {port} is in use"):
            listening.address(host, port)


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("0.0.0.0", "http://127.0.0.1:8000"),
        ("::", "http://[::1]:8000"),
        ("::1", "http://[::1]:8000"),
        ("192.0.2.7", "http://192.0.2.7:8000"),
    ],
)
def test_the_printed_url_leads_there(address: str, url: str) -> None:
    assert listening.url(address, 8000) == url


def eventually(service: Service, look: Callable[[], Any]) -> Any:
    """Return the first match; fail with the log if the service ends before."""
    until = time.monotonic() + 60
    while not (found := look()):
        assert service.process.poll() is None and time.monotonic() < until, service.log
        time.sleep(0.1)
    return found


def answers(url: str | urllib.request.Request) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
    except OSError:
        return False


@pytest.mark.parametrize(
    "host", ["localhost", pytest.param("::1", marks=needs_ipv6), "0.0.0.0", pytest.param("::", marks=needs_ipv6)]
)
def test_the_service_answers_at_the_address_that_it_prints(host: str, public_folder: Path) -> None:
    data = str(public_folder / "data")
    service = Service(public_folder, HOST=host, EMBEDDED_DATA_DIR=data, AUTH="none")
    try:
        url = eventually(service, lambda: re.search(r"Predlog: (\S+)", service.log))[1]
        assert eventually(service, lambda: answers(f"{url}/health"))
        assert "starting it again" not in service.log
    finally:
        service.stop()


@pytest.mark.parametrize("host", ["127.1", pytest.param("[::1]", marks=needs_ipv6)])
def test_however_loopback_is_written_no_web_page_calls_the_service_by_a_name_of_its_own(
    host: str, public_folder: Path
) -> None:
    data = str(public_folder / "data")
    service = Service(public_folder, HOST=host, EMBEDDED_DATA_DIR=data, AUTH="none")
    try:
        url = eventually(service, lambda: re.search(r"Predlog: (\S+)", service.log))[1]
        assert eventually(service, lambda: answers(f"{url}/ready"))
        assert answers(f"{url}/api/v1/stats")
        assert not answers(urllib.request.Request(f"{url}/api/v1/stats", headers={"Host": "rebound.example.org"}))
    finally:
        service.stop()


def test_a_name_that_does_not_resolve_stops_the_start_with_a_sentence(public_folder: Path) -> None:
    service = Service(public_folder, HOST="no-such-host.invalid")
    assert service.process.wait(timeout=60) == 2
    assert service.log.startswith("predlog: HOST no-such-host.invalid is neither")
    assert "Traceback" not in service.log
