"""Answer before the body has been read, and keep the connection usable for the next request."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from flask import Flask

from app.presentation.middleware.concurrency import Unsent
from app.presentation.middleware.request_body import CHUNK, FIRST, WAS_READ

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

# At most twice the allowed size of a body, or so many seconds of it, are read and thrown away.
MAX_BYTES = 32 * 1024 * 1024
MAX_S = 5.0


class Application(Flask):
    """A Flask application that reads the rest of a body after an early answer.

    A server silently closes a connection with an unread body, and the client's next request on it fails. So the rest of
    the body is read first. If the rest is too long, or the answer is large and holds memory meanwhile, the answer says
    `Connection: close`. This layer is outermost, so a client that still sends a refused body holds no permit.
    """

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request (WSGI)."""
        if not _has_body(environ):
            return self.wsgi_app(environ, start_response)
        begun: list[tuple[Any, ...]] = []
        # The type of start_response wants a writer for the old way to send a body, which nothing here uses.
        answer = self.wsgi_app(environ, lambda *arguments: begun.append(arguments))  # type: ignore[arg-type]
        status, headers, *more = begun[-1]
        is_held = isinstance(answer, Unsent)
        if not environ.get(WAS_READ) and (is_held or not _rest_is_read(environ, status)):
            headers = [*headers, ("Connection", "close")]
        start_response(status, headers, *more)
        return answer


def _has_body(environ: dict[str, Any]) -> bool:
    """Return whether there is a body whose end the server knows; only such a body may be read to its end."""
    has_body = environ.get("CONTENT_LENGTH", "0") not in ("", "0") or "HTTP_TRANSFER_ENCODING" in environ
    return has_body and environ.get("wsgi.input_terminated", False)


def _rest_is_read(environ: dict[str, Any], status: str) -> bool:
    length = environ.get("CONTENT_LENGTH", "")
    # A client with `Expect: 100-continue` asks first, and this answer tells it not to send the body.
    asks_first = "HTTP_EXPECT" in environ
    if asks_first or status.startswith("408") or (length.isdecimal() and int(length) > MAX_BYTES):
        return False
    began, received, size = time.monotonic(), 0, FIRST
    while chunk := environ["wsgi.input"].read(size):
        received += len(chunk)
        size = min(2 * size, CHUNK)
        if received > MAX_BYTES or time.monotonic() - began > MAX_S:
            return False
    return True
