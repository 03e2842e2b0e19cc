"""The hosts that a name, a wildcard such as `*.example.org` or an address stands for."""

from __future__ import annotations

import re
from collections.abc import Sequence

from app.domain.loopback import is_loopback, is_loopback_header

ANY = "*"
MAX_HEADER_LENGTH = 300
_LABELS = r"(?:[a-z0-9_-]+\.)+"
_HEADER = re.compile(r"(\[[0-9a-f:.]+\]|[^:\[\]]+)(?::[0-9]{1,5})?", re.ASCII)


def origin_pattern(origin: str) -> re.Pattern[str]:
    """Return a pattern of the whole origins that `https://example.org` or `https://*.example.org:8443` stands for.

    A wildcard stands for one name or more below the domain, never for the domain itself.
    """
    scheme, _, host = origin.partition("://")
    return re.compile(re.escape(f"{scheme}://") + _pattern(host) + r"\Z", re.ASCII)


def _pattern(host: str) -> str:
    return _LABELS + re.escape(host[2:]) if host.startswith("*.") else re.escape(host)


class AllowedHosts:
    """The hosts that a request may name in its Host header, with any port."""

    def __init__(self, hosts: Sequence[str], listens_on: str) -> None:
        """`hosts` as the settings have them; if there are none, a service on loopback allows the names of loopback."""
        self._loopback_only = not hosts and is_loopback(listens_on)
        self._any = ANY in hosts or not (hosts or self._loopback_only)
        self._hosts = re.compile("|".join(_pattern(host) for host in hosts), re.ASCII)

    def allow(self, header: str) -> bool:
        """Return whether a request with this Host header is meant for this service."""
        if self._any:
            return True
        if self._loopback_only:
            return is_loopback_header(header)
        match = _HEADER.fullmatch(header.lower()) if len(header) <= MAX_HEADER_LENGTH else None
        return match is not None and self._hosts.fullmatch(match[1]) is not None
