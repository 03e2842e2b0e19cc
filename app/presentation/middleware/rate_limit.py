"""Limit the requests of each key, or of each address if no key is needed; and the requests without a valid key."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Protocol

from flask import Flask, g, request

from app.domain.errors import RateLimited, TooManyFailures
from app.domain.keys import ApiKey
from app.domain.rate import Rate
from app.presentation.middleware.authentication import OPEN, needed_for


class CallerTable(Protocol):
    """A number for each caller, 0 for an unknown one."""

    def update(self, caller: str, change: Callable[[float], float]) -> None:
        """Replace a caller's number by `change` of it, atomically."""
        ...


class RateLimit:
    """The same rate for each caller."""

    def __init__(self, rate: Rate, table: CallerTable, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._table = table
        self._clock = clock

    def check(self, caller: str) -> None:
        """Count a request. Raises RateLimited if it comes too early, and then does not count it."""
        early = 0.0

        def admit(tat: float) -> float:
            nonlocal early
            tat, early = self._rate.admit(tat, self._clock())
            return tat

        self._table.update(caller, admit)
        if early > 0:
            raise RateLimited(early)


def register(app: Flask, limit: RateLimit) -> None:
    """Check every request to an endpoint that needs a key; register this after the authentication."""

    def check() -> None:
        """Raises RateLimited."""
        if request.endpoint is None or request.method == "OPTIONS" or needed_for(request.endpoint) is OPEN:
            return
        limit.check(caller())

    app.before_request(check)


def failures(limit: RateLimit) -> Callable[[], None]:
    """Return a function that counts a request without a valid key."""

    def count() -> None:
        """Raises TooManyFailures."""
        try:
            limit.check(_address())
        except RateLimited as error:
            raise TooManyFailures(error.wait_s) from None

    return count


def caller() -> str:
    """Return the caller that limits are kept for: the key, or the address if there is no key."""
    key: ApiKey | None = g.get("key")
    return f"key {key.id}" if key else _address()


def _address() -> str:
    return _network(request.environ.get("REMOTE_ADDR") or "")


@lru_cache(maxsize=1024)
def _network(address: str) -> str:
    """Return the address; of IPv6 its /64, because one caller may have all addresses of a /64."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    is_v6 = isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is None
    return str(ip_network((address, 64), strict=False)) if is_v6 else address
