"""The address that the service listens on, and the URL for people."""

from __future__ import annotations

import errno
import socket
from ipaddress import ip_address

from config import ConfigurationError


def address(host: str, port: int) -> str:
    """Return the numeric address to listen on: for a name its first address of this machine, IPv4 before IPv6.

    Raises ConfigurationError if there is none, or if another program listens there already.
    """
    reason = "it has no address"
    for family, candidate in _addresses(host, port):
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((candidate, port))
                return candidate
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    raise ConfigurationError(
                        f"PORT {port} is in use; choose another, or stop the program that uses it"
                    ) from None
                if error.errno == errno.EACCES:
                    raise ConfigurationError(f"PORT {port} is not for this user to listen on; choose another") from None
                reason = error.strerror or str(error)
    raise ConfigurationError(f"HOST {host} is no address of this machine: {reason}")


def url(address: str, port: int) -> str:
    """Return a URL that leads to the address from this machine."""
    number = ip_address(address)
    if number.is_unspecified:
        number = ip_address("127.0.0.1" if number.version == 4 else "::1")
    return f"http://{number}:{port}" if number.version == 4 else f"http://[{number}]:{port}"


def _addresses(host: str, port: int) -> list[tuple[socket.AddressFamily, str]]:
    name = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, ValueError):  # ValueError if the text cannot be a name
        raise ConfigurationError(f"HOST {host} is neither an address nor a name that resolves to one") from None
    numeric = [(family, str(place[0])) for family, _, _, _, place in found]
    if any("%" in candidate for _, candidate in numeric):
        raise ConfigurationError(f"HOST {host} has a zone, which the server cannot listen on")
    return sorted(numeric, key=lambda candidate: candidate[0] != socket.AF_INET)
