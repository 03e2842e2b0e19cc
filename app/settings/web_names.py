"""What hosts, origins and addresses may look like in a setting."""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv4Address, IPv6Address

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = rf"{_LABEL}(?:\.{_LABEL})*"
# A wildcard stands for all names below a domain of two labels or more, or below localhost.
_HOST = re.compile(rf"{_NAME}|\*\.(?:localhost|{_LABEL}\.{_NAME})|\[([0-9a-f:.]+)\]", re.ASCII)
_ORIGIN = re.compile(r"(https?)://([^/?#@\\\s]+?)(?::([0-9]{1,5}))?", re.ASCII)
_URL = re.compile(r"https?://[^/?#@\\\s]+(/[^?#\\\s]*)?", re.ASCII)
_DEFAULT_PORTS = {"http": 80, "https": 443}


def is_web_address(text: str) -> bool:
    """Whether it is the address of a site or of a folder in it, without a query."""
    return _URL.fullmatch(text) is not None


def origin_problem(origin: str) -> str | None:
    """Why this is no origin, as the end of a sentence; None if it is one."""
    if origin == "*":
        return "stands for every origin, so it must stand alone"
    match = _ORIGIN.fullmatch(origin)
    if match is None:
        return "is no origin: expected https://example.org or https://*.example.org, with a port or without, no path"
    scheme, host, port = match.groups()
    if port and (port.startswith("0") or int(port) > 65535):
        return "has a port that does not exist"
    if port and int(port) == _DEFAULT_PORTS[scheme]:
        return f"must be written without :{port}, as browsers send it"
    return host_problem(host, "in its host ")


def host_problem(host: str, where: str = "") -> str | None:
    """Why this is no host, as the end of a sentence; None if it is one."""
    match = _HOST.fullmatch(host)
    # Browsers take a name that ends in a number for an IPv4 address.
    is_address = host.rpartition(".")[2].isdigit()
    if match is None or len(host) > 253 or (is_address and not _is_ipv4(host)):
        return (
            f"has something {where}that is no host: expected example.org in lower case (other alphabets as xn--…), "
            "*.example.org for all names below it, 192.0.2.1 or [2001:db8::1]"
        )
    if match[1]:
        try:
            shortest = f"[{IPv6Address(match[1]).compressed}]"
        except AddressValueError:
            return "is no IPv6 address"
        if shortest != host:
            return f"must be written as {shortest}, as browsers send it"
    return None


def _is_ipv4(host: str) -> bool:
    try:
        IPv4Address(host)
    except AddressValueError:
        return False
    return True
