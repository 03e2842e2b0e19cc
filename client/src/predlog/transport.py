"""HTTP to one service over one kept-alive connection, with the standard library alone."""

from __future__ import annotations

import codecs
import contextlib
import http.client
import io
import os
import socket
import time
import zlib
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple
from urllib.parse import SplitResult, urlsplit

from predlog.connecting import Connector, Route
from predlog.version import __version__

BATCH_PATH = "/api/v1/predict-logs"
WORTH_COMPRESSING = 1024
MAX_ANSWER_BYTES = 16 * 1024 * 1024
MAX_RETRY_AFTER = 600.0

# Looked up here, before any thread runs: a child forked while a thread imports a codec never finds that codec again.
codecs.lookup("idna")

# What a kept-alive connection that the server has closed in the meantime looks like from here.
_STALE = (http.client.RemoteDisconnected, ConnectionResetError, ConnectionAbortedError, BrokenPipeError)


class Answer(NamedTuple):
    """What the service said."""

    status: int
    body: bytes
    retry_after: float | None  # seconds
    date: str | None = None  # by the service's clock
    link: str | None = None  # to the next page


class Transport:
    """Requests to the service at one URL. Not for use by several threads at once."""

    def __init__(self, url: str, api_key: str | None, timeout: float, route: Route | None = None) -> None:
        parts = _checked(url)
        self._connector = Connector(parts, route or Route())
        self._prefix = self._connector.prefix + parts.path.rstrip("/")
        self._timeout = timeout
        self._headers = {"User-Agent": f"predlog-python/{__version__}", "Accept": "application/json"}
        if api_key is not None:
            self._headers["Authorization"] = f"Bearer {_checked_key(api_key)}"
        self._headers.update(self._connector.headers)
        self._connection: http.client.HTTPConnection | None = None

    def post(self, path: str, body: bytes, headers: Mapping[str, str], timeout: float | None = None) -> Answer:
        """POST JSON, compressed if that pays; raises OSError or HTTPException when no whole answer came."""
        headers = {"Content-Type": "application/json", **headers}
        if len(body) >= WORTH_COMPRESSING:
            # Not gzip.compress: before Python 3.11 that runs in Python and keeps the host's threads waiting.
            deflate = zlib.compressobj(1, zlib.DEFLATED, 31)
            body = deflate.compress(body) + deflate.flush()
            headers["Content-Encoding"] = "gzip"
        return self._request("POST", path, body, headers, timeout)

    def get(self, path: str) -> Answer:
        """GET; raises OSError or HTTPException when no whole answer came."""
        return self._request("GET", path, None, {}, None)

    def stream(self, path: str, headers: Mapping[str, str], timeout: float) -> http.client.HTTPResponse:
        """GET on a new connection, for an answer of any length, each part of which may take `timeout` seconds.

        `close()` ends it. Raises OSError or HTTPException; so does reading the answer if it breaks off.
        """
        self.close()
        connection = self._connected(timeout)
        connection.request("GET", self._prefix + path, None, {**self._headers, **headers})
        return connection.getresponse()

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.close()

    def disown(self) -> None:
        """In a forked child: close its copy of the parent's connection, whatever the parent's thread was about.

        Not as http.client does: that thread may have held the lock of the answer's buffer, and it does not exist here.
        """
        connection, self._connection = self._connection, None
        if connection is not None and connection.sock is not None:
            with contextlib.suppress(OSError):
                os.close(connection.sock.detach())

    def _request(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str], timeout: float | None
    ) -> Answer:
        deadline = time.monotonic() + (self._timeout if timeout is None else min(timeout, self._timeout))
        reused = self._connection is not None
        try:
            return self._exchange(method, path, body, headers, deadline)
        except _STALE:
            self.close()
            if not reused:
                raise
        except BaseException:
            self.close()
            raise
        # Once more on a fresh connection: the service knows each record by its request_id, so this is safe.
        try:
            return self._exchange(method, path, body, headers, deadline)
        except BaseException:
            self.close()
            raise

    def _exchange(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str], deadline: float
    ) -> Answer:
        connection = self._connected(_left(deadline))
        connection.sock.settimeout(_left(deadline))
        connection.response_class = _answer_by(deadline)  # type: ignore[assignment]  # any callable will do
        # Cut short while sending, it may still have answered (413, say) before it had read everything.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.request(method, self._prefix + path, body, {**self._headers, **headers})
        response = connection.getresponse()
        answer = Answer(
            response.status,
            _read(response),
            _retry_after(response.getheader("Retry-After")),
            response.getheader("Date"),
            response.getheader("Link"),
        )
        if response.will_close:
            self.close()
        return answer

    def _connected(self, timeout: float) -> http.client.HTTPConnection:
        connection = self._connection
        if connection is not None and connection.sock is not None:
            connection.sock.settimeout(timeout)
            return connection
        self._connection = connection = self._connector.connect(timeout)
        return connection


class _Reader(io.RawIOBase):
    """Reads of a socket until a deadline: a timeout of each read alone would let an answer drip for ever."""

    def __init__(self, sock: socket.socket, file: Any, deadline: float) -> None:
        self._sock = sock
        self._file = file
        self._deadline = deadline

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int | None:
        """Raise socket.timeout once the deadline is over."""
        self._sock.settimeout(_left(self._deadline))
        count: int | None = self._file.readinto1(buffer)
        return count

    def close(self) -> None:
        """Close what it reads from, too."""
        super().close()
        self._file.close()


def _answer_by(deadline: float) -> Callable[..., http.client.HTTPResponse]:
    """What makes the answer of a connection whose head and body must have come by then."""

    def answer(sock: socket.socket, *options: Any, **named: Any) -> http.client.HTTPResponse:
        response = http.client.HTTPResponse(sock, *options, **named)
        response.fp = io.BufferedReader(_Reader(sock, response.fp, deadline))
        return response

    return answer


def _left(deadline: float) -> float:
    """Seconds until then. Raises socket.timeout if there are none."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise socket.timeout("timed out")
    return left


def _read(response: http.client.HTTPResponse) -> bytes:
    """The whole body."""
    chunks: list[bytes] = []
    size = 0
    expected = response.length
    while chunk := response.read1(65536):
        chunks.append(chunk)
        size += len(chunk)
        if size > MAX_ANSWER_BYTES:
            raise http.client.HTTPException("the answer is too long")
    if expected is not None and size < expected:
        raise http.client.IncompleteRead(b"", expected - size)
    response.close()  # read1() does not notice the end, and the connection would not take another request
    return b"".join(chunks)


def _retry_after(value: str | None) -> float | None:
    """Seconds to wait, from the seconds or the date of a Retry-After header (RFC 9110, section 10.2.3)."""
    if not value:
        return None
    try:
        seconds = float(value) if value.strip().isdigit() else _until(value)
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(seconds, 0.0), MAX_RETRY_AFTER)


def _until(value: str) -> float:
    moment = parsedate_to_datetime(value)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    return (moment - datetime.now(timezone.utc)).total_seconds()


def _checked(url: str) -> SplitResult:
    """The parts of a usable URL; the text of the error never repeats it, for it may hold a password."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except (ValueError, AttributeError, TypeError):
        raise ValueError("the URL of the Predlog service is not a URL; it looks like http://logs:8000") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("the URL of the Predlog service must start with http:// or https:// and name a host")
    if parts.username is not None or parts.password is not None:
        raise ValueError("the URL of the Predlog service must not hold a user or password: pass api_key instead")
    if parts.query or parts.fragment:
        raise ValueError("the URL of the Predlog service must not hold a query or a fragment")
    if port == 0 or any(character <= " " or character >= "\x7f" for character in parts.netloc + parts.path):
        raise ValueError("the URL of the Predlog service holds a space, a port 0 or a character outside ASCII")
    return parts


def _checked_key(api_key: str) -> str:
    if not isinstance(api_key, str) or not api_key or not all("!" <= character <= "~" for character in api_key):
        raise ValueError("api_key must be printable ASCII without spaces or line ends")
    return api_key
