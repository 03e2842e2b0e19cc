"""Group commit: items that arrive at the same time are written in one statement and one commit.

An item that arrives during a write waits; when the write ends, all waiting items go with the next one. So a single item
is written at once, and under load as many items as there are threads share a commit. There is one write at a time: with
two, groups would be half as large, and fewer items would be written in a second.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class _Ticket(Generic[T, R]):
    """An item to write, with the lock on which its thread waits."""

    __slots__ = ("_called", "group", "item", "outcome")

    def __init__(self, item: T) -> None:
        self.item = item
        self.group: list[_Ticket[T, R]] = []
        self.outcome: R | BaseException
        self._called = threading.Lock()
        self._called.acquire()

    def wait(self) -> None:
        """Wait until the item is written, or until this thread must write the group that it leads."""
        self._called.acquire()

    def call(self) -> None:
        self._called.release()


class GroupCommit(Generic[T, R]):
    """Gathers items for `write`, which returns for each item a result, or an exception to raise."""

    def __init__(self, write: Callable[[Sequence[T]], Sequence[R | BaseException]]) -> None:
        self._write_all = write
        self._lock = threading.Lock()
        self._is_writing = False
        self._waiting: list[_Ticket[T, R]] = []

    def write(self, item: T) -> R:
        """Return once the item is committed. Raises what `write` raised or returned for it."""
        ticket: _Ticket[T, R] = _Ticket(item)
        with self._lock:
            if self._is_writing:
                self._waiting.append(ticket)
            else:
                self._is_writing = True
                ticket.group = [ticket]
        if not ticket.group:
            ticket.wait()
        if ticket.group:
            self._write(ticket)
        if isinstance(ticket.outcome, BaseException):
            raise ticket.outcome
        return ticket.outcome

    def _write(self, leader: _Ticket[T, R]) -> None:
        outcomes: Sequence[R | BaseException]
        try:
            outcomes = self._write_all([ticket.item for ticket in leader.group])
        except BaseException as error:
            outcomes = [error] * len(leader.group)
        for ticket, outcome in zip(leader.group, outcomes, strict=True):
            ticket.outcome = outcome
        with self._lock:
            following, self._waiting = self._waiting, []
            self._is_writing = bool(following)
        if following:
            following[0].group = following
            following[0].call()
        for ticket in leader.group:
            if ticket is not leader:
                ticket.call()
