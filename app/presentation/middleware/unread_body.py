"""Answer before the body has been read, and keep the connection fit for the next call."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from flask import Flask

from app.presentation.middleware.request_body import CHUNK, FIRST, WAS_READ

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

# A body as large as two that are allowed, or so many seconds of it, are read and thrown away.
MAX_BYTES = 32 * 1024 * 1024
MAX_S = 5.0


class Application(Flask):
    """A Flask application that reads what an answer left unread of a body.

    A server closes a connection on which a body was left unread, without a word to the client, whose next call on it
    fails. So the rest of the body is read first, and if there is too much of it the answer says `Connection: close`.
    This is outermost: a client that still sends a body that was refused holds no place of the gate.
    """

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request (WSGI)."""
        if not _has_body(environ):
            return self.wsgi_app(environ, start_response)
        begun: list[tuple[Any, ...]] = []
        # The type of start_response wants a writer for the old way to send a body, which nothing here uses.
        answer = self.wsgi_app(environ, lambda *arguments: begun.append(arguments))  # type: ignore[arg-type]
        status, headers, *more = begun[-1]
        if not (environ.get(WAS_READ) or _rest_is_read(environ, status)):
            headers = [*headers, ("Connection", "close")]
        start_response(status, headers, *more)
        return answer


def _has_body(environ: dict[str, Any]) -> bool:
    """Whether there is a body, on a server that tells its end: from another one nothing may be read beyond it."""
    has_body = environ.get("CONTENT_LENGTH", "0") not in ("", "0") or "HTTP_TRANSFER_ENCODING" in environ
    return has_body and environ.get("wsgi.input_terminated", False)


def _rest_is_read(environ: dict[str, Any], status: str) -> bool:
    length = environ.get("CONTENT_LENGTH", "")
    # Such a client asks first, and is told now not to send it.
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
