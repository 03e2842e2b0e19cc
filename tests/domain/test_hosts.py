"""Which hosts and origins are meant."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.hosts import AllowedHosts, origin_pattern

LABELS = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=10)


@pytest.mark.parametrize(
    "origin", ["https://app.example.org", "https://a.b.example.org", "https://x-1.example.org", "https://1.example.org"]
)
def test_a_wildcard_stands_for_every_name_below_the_domain(origin: str) -> None:
    assert origin_pattern("https://*.example.org").match(origin)


@pytest.mark.parametrize(
    "origin",
    [
        "https://example.org", "https://xexample.org", "https://xexample.org.evil.com", "https://app.example.org.evil.com",
        "https://appxexample.org", "https://app.exampleXorg", "http://app.example.org", "https://app.example.org:8443",
        "https://.example.org", "https://a..example.org", "https://evil.com/.example.org", "https://evil.com#.example.org",
        "https://evil.com?a.example.org", "https://user@a.example.org", "https://app.example.org\n", "x https://a.example.org",
        "https://evil.com\\.example.org", "https://ſ.example.org", "null", "",
    ],
)  # fmt: skip
def test_a_wildcard_stands_for_nothing_else(origin: str) -> None:
    assert not origin_pattern("https://*.example.org").match(origin)


@pytest.mark.parametrize(
    ("allowed", "other"),
    [
        ("https://example.org", "https://exampleXorg"),
        ("https://example.org", "https://example.org.evil.com"),
        ("https://example.org:8443", "https://example.org"),
        ("https://[::1]:3000", "https://:"),
        ("https://[::1]:3000", "https://1:3000"),
    ],
)
def test_an_origin_stands_for_itself_alone(allowed: str, other: str) -> None:
    assert origin_pattern(allowed).match(allowed)
    assert not origin_pattern(allowed).match(other)


@given(st.lists(LABELS, min_size=1, max_size=5))
def test_only_what_ends_in_the_domain_and_has_more_before_it_is_below_it(labels: list[str]) -> None:
    host = ".".join(labels)
    below = len(labels) > 2 and labels[-2:] == ["example", "org"]
    assert bool(origin_pattern("https://*.example.org").match(f"https://{host}")) is below
    assert origin_pattern("https://*.example.org").match(f"https://{host}.example.org")


@pytest.mark.parametrize("header", ["localhost", "LOCALHOST:8000", "127.0.0.1", "127.0.0.1:8000", "[::1]:8000"])
@pytest.mark.parametrize("listens_on", ["127.0.0.1", "::1", "localhost"])
def test_a_service_on_loopback_is_called_by_loopbacks_names(listens_on: str, header: str) -> None:
    assert AllowedHosts((), listens_on).allow(header)


@pytest.mark.parametrize(
    "header", ["", "evil.com", "localhost.evil.com", "192.0.2.7", "127.0.0.1.evil.com", "[::2]", "a b"]
)
def test_a_service_on_loopback_is_called_by_no_other_name(header: str) -> None:
    assert not AllowedHosts((), "127.0.0.1").allow(header)


@pytest.mark.parametrize("header", ["", "evil.com", "192.0.2.7:80", "[::2]"])
@pytest.mark.parametrize(("hosts", "listens_on"), [((), "0.0.0.0"), ((), "::"), (("*",), "127.0.0.1")])
def test_elsewhere_or_with_a_star_any_name_will_do(hosts: tuple[str, ...], listens_on: str, header: str) -> None:
    assert AllowedHosts(hosts, listens_on).allow(header)


HOSTS = ("logs.example.org", "*.internal.example", "192.0.2.1", "[2001:db8::1]")


@pytest.mark.parametrize(
    "header",
    [
        "logs.example.org", "Logs.Example.ORG:8000", "a.internal.example", "a.b.internal.example:80", "192.0.2.1:8000",
        "[2001:db8::1]", "[2001:DB8::1]:8000",
    ],
)  # fmt: skip
@pytest.mark.parametrize("listens_on", ["127.0.0.1", "0.0.0.0"])
def test_the_hosts_that_are_named_are_allowed_with_any_port(listens_on: str, header: str) -> None:
    assert AllowedHosts(HOSTS, listens_on).allow(header)


@pytest.mark.parametrize(
    "header",
    [
        "", "localhost", "127.0.0.1", "internal.example", "logsXexample.org", "logs.example.org.evil.com",
        "evil.com:logs.example.org", "logs.example.org:80:80", "logs.example.org:", "logs.example.org@evil.com",
        "192.0.2.11", "2001:db8::1", "a." * 200 + "internal.example", "logs.example.org,evil.com",
    ],
)  # fmt: skip
def test_no_other_host_is_allowed(header: str) -> None:
    assert not AllowedHosts(HOSTS, "127.0.0.1").allow(header)


def test_a_pattern_takes_time_in_proportion_to_what_it_is_put_to() -> None:
    pattern = origin_pattern("https://*.example.org").pattern
    assert re.search(r"\)\+", pattern) and pattern.count("+") == 2, "one repetition inside of one that a dot ends"
