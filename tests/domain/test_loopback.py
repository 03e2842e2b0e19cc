from __future__ import annotations

import pytest

from app.domain.loopback import is_loopback, is_loopback_header

HERE = ["127.0.0.1", "127.8.9.10", "::1", "0:0:0:0:0:0:0:1", "::ffff:127.0.0.1", "localhost", "LocalHost"]
ELSEWHERE = [
    *("", "0.0.0.0", "::", "10.0.0.1", "192.0.2.7", "2001:db8::1", "::ffff:10.0.0.1", "example.org"),
    *("localhost.example.org", "127.0.0.1.example.org", "0177.0.0.1", "127.1", "2130706433"),
]


@pytest.mark.parametrize("host", HERE)
def test_an_address_of_this_machine_is_known_as_one(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ELSEWHERE)
def test_any_other_address_or_name_is_not(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize("header", ["localhost", "localhost:8000", "127.0.0.1:8000", "[::1]", "[::1]:8000"])
def test_a_host_header_may_have_a_port(header: str) -> None:
    assert is_loopback_header(header)


@pytest.mark.parametrize(
    "header",
    ["", ":8000", "example.org", "example.org:8000", "10.0.0.1:8000", "localhost:8000:9", "localhost@example.org",
     "example.org#localhost", "localhost,example.org", "[::1", "[10.0.0.1]", "localhost:port", "::1"],
)  # fmt: skip
def test_any_other_host_header_is_not_of_this_machine(header: str) -> None:
    assert not is_loopback_header(header)
