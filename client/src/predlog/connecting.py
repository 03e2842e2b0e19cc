"""Ways to a service: directly, through a proxy, over a Unix socket, with certificates of one's own."""

from __future__ import annotations

import _socket
import base64
import http.client
import os
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, unquote, urlsplit

from predlog.settings import Settings


@dataclass(frozen=True)
class Route:
    """See `Client` for what each means."""

    headers: Mapping[str, str] = field(default_factory=dict, repr=False)  # may hold a password, as the next one may
    proxy: str | None = field(default=None, repr=False)
    ca_file: str | None = None
    client_certificate: str | None = None
    client_key: str | None = None
    unix_socket: str | None = None

    def check_files(self) -> None:
        """Raise OSError if a certificate or key cannot be read: this is for the program's start, not for a thread."""
        for path in (self.ca_file, self.client_certificate, self.client_key):
            if path is not None:
                with open(path, "rb"):
                    pass

    @classmethod
    def of(cls, settings: Settings) -> Route:
        """The options of a client that are about the way to the service."""
        return cls(**{name: getattr(settings, name) for name in cls.__dataclass_fields__})


class Connector:
    """Opens connections to the host of one URL. Raises ValueError for options that cannot work."""

    def __init__(self, url: SplitResult, route: Route) -> None:
        self._secure = url.scheme == "https"
        self._host, self._port = url.hostname or "", url.port
        self._route = route
        self._proxy = None if route.proxy is None else _checked_proxy(route.proxy)
        if self._proxy is not None and route.unix_socket is not None:
            raise ValueError("proxy and unix_socket exclude each other")
        if route.unix_socket is not None and not hasattr(socket, "AF_UNIX"):
            raise ValueError("unix_socket: this system has no such sockets")
        self.headers = {name: _checked_header(name, value) for name, value in route.headers.items()}
        self.prefix = ""
        if self._proxy is not None and not self._secure:  # a proxy is told the whole URL
            self.prefix = f"http://{url.netloc}"
            self.headers.update(_credentials(self._proxy))
        self._tls: ssl.SSLContext | None = None

    def connect(self, timeout: float) -> http.client.HTTPConnection:
        """An open connection; raises OSError or HTTPException."""
        connection = self._connection(timeout)
        try:
            connection.connect()
        except RuntimeError:  # gevent looks names up in a thread, and at interpreter shutdown it gets none
            # An attribute of http.client that its types do not name.
            connection._create_connection = _connected_without_thread  # type: ignore[attr-defined]
            connection.connect()
        return connection

    def _connection(self, timeout: float) -> http.client.HTTPConnection:
        host, port = self._host, self._port
        if self._proxy is not None:
            host, port = self._proxy.hostname or "", self._proxy.port or 8080
        if self._secure:
            # Not before it is needed: reading the certificates takes tens of milliseconds, and a fork does not wait.
            self._tls = self._tls or self._context()
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                host, port, timeout=timeout, context=self._tls
            )
        else:
            connection = http.client.HTTPConnection(host, port, timeout=timeout)
        if self._proxy is not None and self._secure:
            connection.set_tunnel(self._host, self._port, _credentials(self._proxy))
        path = self._route.unix_socket
        if path is not None:
            # An attribute of http.client that its types do not name.
            connection._create_connection = lambda *_: _unix(path, timeout)  # type: ignore[attr-defined]
        return connection

    def _context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self._route.ca_file)
        if self._route.client_certificate is not None:
            context.load_cert_chain(self._route.client_certificate, self._route.client_key)
        return context


def _unix(path: str, timeout: float) -> socket.socket:
    sock = _UnixSocket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout)
        sock.connect(os.fspath(path))
    except BaseException:
        sock.close()
        raise
    return sock


class _UnixSocket(socket.socket):
    """One that takes http.client's options of TCP for done."""

    def setsockopt(self, *_: object) -> None:
        """There is nothing to set."""


def _connected_without_thread(address: tuple[str, int], timeout: float, *_: object) -> socket.socket:
    """What socket.create_connection() does, with the system's own getaddrinfo() in this thread."""
    failure = OSError("no address")
    for family, kind, protocol, _name, resolved in _socket.getaddrinfo(*address, 0, socket.SOCK_STREAM):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(timeout)
            sock.connect(resolved)
            return sock
        except OSError as error:
            sock.close()
            failure = error
    raise failure


def _checked_proxy(proxy: str) -> SplitResult:
    """The parts of its URL; the text of the error never repeats it, for it may hold a password."""
    try:
        parts = urlsplit(proxy)
        usable = parts.scheme == "http" and parts.hostname and parts.port != 0
    except (ValueError, AttributeError, TypeError):
        usable = False
    if not usable:
        raise ValueError("proxy must look like http://proxy:3128")
    return parts


def _credentials(proxy: SplitResult) -> dict[str, str]:
    if proxy.username is None:
        return {}
    pair = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}".encode()
    return {"Proxy-Authorization": f"Basic {base64.b64encode(pair).decode()}"}


def _checked_header(name: str, value: str) -> str:
    fine = isinstance(name, str) and isinstance(value, str) and name and (name + value).isascii()
    if not fine or not (name + value).isprintable() or any(character in name for character in " :"):
        raise ValueError("headers must be names and values of printable ASCII")
    return value
