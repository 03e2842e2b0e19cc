"""Slow clients hold no place: so many requests are worked on at once, and who waits for bytes is not among them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import Any

from flask import Flask, request

from app.presentation.errors import overloaded

ARRIVED = "predlog.arrived"
VISIT = "predlog.visit"
# They answer from memory, and must do so while every place is taken.
WITHOUT_A_PLACE = ("/health", "/metrics")
# Whoever has waited so long is told to come again: where the database hangs, a place for each would take minutes.
WAIT_S = 10.0

Application = Callable[..., Iterable[bytes]]


def register(app: Flask) -> None:
    """Refuse a request that has waited for a place too long, in the shape of every other error."""
    app.before_request(check)


def check() -> None:
    """Answers 503 with Retry-After where this request has no place."""
    visit: Visit | None = request.environ.get(VISIT)
    if visit and not visit.has_place:
        _refuse()


def _refuse() -> None:
    overloaded("places", "As many requests as the service works on at once are under way; send this one again.")


class Visit:
    """One request inside of the gate, or one that was not let in."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._bytes = 0
        self.has_place = gate.enter()

    @contextmanager
    def outside(self) -> Iterator[None]:
        """Give the place to another request for as long as the block lasts. Answers 503 where none is free then.

        Where the block fails there is nothing left to do but to say so, which takes no place.
        """
        self._gate.leave()
        self.has_place = False
        yield
        self.has_place = self._gate.enter()
        if not self.has_place:
            _refuse()

    @property
    def patience_s(self) -> float:
        """How long a body may take."""
        return self._gate.patience_s

    def hold(self, size: int) -> bool:
        """Whether so many bytes more may be kept in memory until the request ends."""
        if not self._gate.reserve(size):
            return False
        self._bytes += size
        return True

    def end(self) -> None:
        """Give back all that was taken."""
        self._gate.reserve(-self._bytes)
        if self.has_place:
            self._gate.leave()


class Gate:
    """WSGI middleware. A thread for each connection may wait at it, so that none is ever wanting.

    It hands answers on in one piece: the server then needs no thread to send them, however slowly they are read.
    """

    def __init__(self, application: Application, places: int, memory: int, patience_s: float) -> None:
        """`places` requests at once, at most `memory` bytes of bodies together, `patience_s` seconds for each body."""
        self._application = application
        self.patience_s = patience_s
        # Faster than threading.Semaphore, which is written in Python.
        self._places: SimpleQueue[None] = SimpleQueue()
        for _ in range(places):
            self._places.put(None)
        self._lock = threading.Lock()
        self._free_bytes = memory

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        environ[ARRIVED] = time.perf_counter()
        if environ.get("PATH_INFO") in WITHOUT_A_PLACE:
            return self._application(environ, start_response)
        visit = environ[VISIT] = Visit(self)
        try:
            return _in_one_piece(self._application(environ, start_response))
        finally:
            visit.end()

    def enter(self) -> bool:
        """Wait for a place; False where there was none in time."""
        try:
            self._places.get(timeout=WAIT_S)
        except Empty:
            return False
        return True

    def leave(self) -> None:
        """Give the place up."""
        self._places.put(None)

    def reserve(self, size: int) -> bool:
        """Take so many bytes of memory, where there are so many; give them back where it is below zero."""
        with self._lock:
            if size > self._free_bytes:
                return False
            self._free_bytes -= size
            return True


def _in_one_piece(answer: Iterable[bytes]) -> list[bytes]:
    try:
        return [b"".join(answer)]
    finally:
        if close := getattr(answer, "close", None):
            close()
