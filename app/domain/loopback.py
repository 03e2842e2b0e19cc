"""The addresses of the machine itself."""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import IPv6Address, ip_address

_HOST_HEADER = re.compile(r"(?:\[([^\]]+)\]|([^:\[\]]+))(?::[0-9]{1,5})?")


@lru_cache(maxsize=256)
def is_loopback(host: str) -> bool:
    """Return whether a name or an address means this machine alone; any other name may resolve to any address."""
    if host.lower() == "localhost":
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback


@lru_cache(maxsize=256)
def is_loopback_header(header: str) -> bool:
    """Return the same for a Host header, with or without a port."""
    match = _HOST_HEADER.fullmatch(header)
    return match is not None and is_loopback(match[1] or match[2])
