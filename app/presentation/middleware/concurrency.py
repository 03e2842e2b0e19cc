"""Limit the permits of requests, and their memory for bodies and for answers that are not sent yet.

A client that sends or reads slowly holds no permit. Reads never take all permits, so that a write finds one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

from flask import Flask, Response, current_app, request
from werkzeug.exceptions import HTTPException

from app.presentation.errors import overloaded
from app.presentation.middleware.permits import Memory, Permits

ARRIVED = "predlog.arrived"
PERMIT = "predlog.permit"
EXTENSION = "predlog-concurrency"
# They answer from memory, and must do so while every permit is taken.
WITHOUT_A_PERMIT = ("/health", "/metrics")
# A load balancer that found an instance busy with reads would keep writes from it.
NO_READ = (*WITHOUT_A_PERMIT, "/ready")
READS = ("GET", "HEAD", "OPTIONS")
# A request that has waited so long is answered 503, because a hanging database would make it wait for minutes.
WAIT_S = 10.0
# The server copies each piece of an answer, and buffers a few pieces until the client has read them.
PIECE_BYTES = 16 * 1024
# An answer up to this size is handed to the server whole, and not counted.
SMALL_BYTES = 4 * PIECE_BYTES
TOO_MANY_ANSWERS = (
    "The service has as many large answers in memory as it may: read those that you have asked for, or ask for less "
    "with each request."
)

Application = Callable[..., Iterable[bytes]]


def register(app: Flask) -> None:
    """Refuse, in the shape of every other error, a request that waited too long and an answer that finds no memory."""
    app.before_request(check)
    app.after_request(count_answer)


def check() -> None:
    """Answer 503 with Retry-After if this request has no permit, or if no memory is left for its answer."""
    permit: Permit | None = request.environ.get(PERMIT)
    if permit and not permit.is_granted:
        _refuse()
    if permit and permit.is_overdrawn:
        overloaded("memory", TOO_MANY_ANSWERS)


def count_answer(response: Response) -> Response:
    """Hold memory for a large answer until the client has read it; answers 503 with Retry-After if there is none."""
    permit: Permit | None = request.environ.get(PERMIT)
    # A file is read piece by piece, as the client reads it.
    size = 0 if response.direct_passthrough else response.calculate_content_length() or 0
    if permit is None or size <= SMALL_BYTES or permit.hold_answer(size):
        return response
    response.close()
    try:
        overloaded("memory", TOO_MANY_ANSWERS)
    except HTTPException as error:
        return current_app.make_response(current_app.handle_user_exception(error))


def _refuse() -> None:
    overloaded("permits", "As many requests as the service works on at once are under way; send this one again.")


class Permit:
    """The share of one request in the limits: a permit, if it got one, and memory."""

    def __init__(self, limits: ConcurrencyLimit, environ: dict[str, Any]) -> None:
        path = environ.get("PATH_INFO")
        self._limits = limits
        self._is_write = environ.get("REQUEST_METHOD") not in READS
        self._is_read = not self._is_write and path not in NO_READ
        self._answers = limits.receipts if self._is_write else limits.answers
        self._needs_permit = path not in WITHOUT_A_PERMIT
        self._body_bytes = self._answer_bytes = 0
        self._has_permit = False
        self.is_streamed = False
        self.address: str = environ.get("REMOTE_ADDR") or ""
        self.since = 0.0
        self._begin_work()

    @property
    def is_granted(self) -> bool:
        """Whether the request may be worked on."""
        return self._has_permit or not self._needs_permit

    @contextmanager
    def outside(self) -> Iterator[None]:
        """Give the permit back for as long as the block lasts. Answers 503 if none is free afterwards.

        If the block fails, the error is answered without a permit.
        """
        self._limits.working.discard(self)
        self._leave()
        yield
        self._begin_work()
        if not self.is_granted:
            _refuse()

    @property
    def timeout_s(self) -> float:
        """The timeout of a body, in seconds."""
        return self._limits.timeout_s

    def hold(self, size: int) -> bool:
        """Reserve memory for `size` more bytes of the body, until the work ends; return whether there was enough."""
        if not self._limits.bodies.take(size):
            return False
        self._body_bytes += size
        return True

    def hold_answer(self, size: int) -> bool:
        """Reserve memory for an answer of `size` bytes, until it has been sent; return whether there was enough.

        The answer to a write always gets memory, because it confirms a commit.
        """
        if self._is_write:
            self._answers.overdraw(size)
        elif not self._answers.take(size):
            return False
        self._answer_bytes += size
        return True

    @property
    def is_overdrawn(self) -> bool:
        """Whether this is a write, and unread answers to writes have used up their memory."""
        return self._is_write and self._answers.is_overdrawn

    def stream(self) -> None:
        """End the work now, and have each part of the answer sent as soon as it is there."""
        self.is_streamed = True
        self.end_work()

    def end_work(self) -> None:
        """Give back the permit and the memory of the body."""
        self._limits.bodies.give_back(self._body_bytes)
        self._body_bytes = 0
        self._leave()

    def end(self) -> None:
        """Give back everything, after the answer was sent."""
        self.end_work()
        self._limits.working.discard(self)
        self._answers.give_back(self._answer_bytes)
        self._answer_bytes = 0

    def _begin_work(self) -> None:
        self.since = time.monotonic()
        self._limits.working.add(self)
        self._enter()

    def _enter(self) -> None:
        self._has_permit = self._needs_permit and self._limits.enter(is_read=self._is_read)

    def _leave(self) -> None:
        if self._has_permit:
            self._has_permit = False
            self._limits.leave(is_read=self._is_read)


class ConcurrencyLimit:
    """WSGI middleware that limits concurrent requests. The server has a thread for each connection, so all can wait."""

    def __init__(
        self, application: Application, *, permits: int, reads: int, bodies: int, answers: int, timeout_s: float
    ) -> None:
        """At most `permits` requests at once, `reads` of them reads; `bodies` and `answers` are bytes of memory.

        Answers to writes have another `answers` bytes, which reads cannot take. A body may take `timeout_s` seconds.
        """
        self._application = application
        self.timeout_s = timeout_s
        # The requests for which the service does not wait for their client.
        self.working: set[Permit] = set()
        self._permits, self._reads = Permits(permits), Permits(reads)
        self.bodies, self.answers, self.receipts = Memory(bodies), Memory(answers), Memory(answers)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        environ[ARRIVED] = time.perf_counter()
        permit = environ[PERMIT] = Permit(self, environ)
        try:
            answer = self._application(environ, start_response)
            parts = iter(answer)
            start, is_whole = (b"", False) if permit.is_streamed else _beginning(parts)
        except BaseException:
            permit.end()
            raise
        permit.end_work()
        if is_whole:
            _close(answer)
            permit.end()
            return [start]
        return Unsent(chain([start], parts), answer, permit)

    def at_work(self) -> list[tuple[str, float]]:
        """Return each request that is worked on: its client's address, and since when, by time.monotonic()."""
        # copy() is one step; other threads change the set, and a loop over it, or tuple(), could fail at that.
        return [(permit.address, permit.since) for permit in self.working.copy()]

    def enter(self, *, is_read: bool = False) -> bool:
        """Wait for a permit; return False if none was free in time."""
        until = time.monotonic() + WAIT_S
        if is_read and not self._reads.acquire(until):
            return False
        if self._permits.acquire(until):
            return True
        if is_read:
            self._reads.release()
        return False

    def leave(self, *, is_read: bool = False) -> None:
        """Give the permit back."""
        self._permits.release()
        if is_read:
            self._reads.release()


class Unsent:
    """A large answer, handed to the server piece by piece as the client reads it; its memory is held until the end."""

    def __init__(self, parts: Iterator[bytes], answer: Iterable[bytes], permit: Permit) -> None:
        self._pieces = chain.from_iterable(map(_pieces, parts))
        self._answer = answer
        self._visit = permit

    def __iter__(self) -> Iterator[bytes]:
        return self._pieces

    def close(self) -> None:
        """The server calls this when all pieces are handed over, or the connection has ended."""
        try:
            _close(self._answer)
        finally:
            self._visit.end()


def _beginning(parts: Iterator[bytes]) -> tuple[bytes, bool]:
    """Return the first bytes of an answer, and whether they are all of it."""
    start, size = [], 0
    for part in parts:
        start.append(part)
        size += len(part)
        if size > SMALL_BYTES:
            return b"".join(start), False
    return b"".join(start), True


def _pieces(part: bytes) -> Iterator[bytes]:
    return (part[at : at + PIECE_BYTES] for at in range(0, len(part), PIECE_BYTES))


def _close(answer: Iterable[bytes]) -> None:
    if close := getattr(answer, "close", None):
        close()
