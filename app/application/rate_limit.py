"""Limit the requests of each caller, so that one caller leaves enough for the others."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from app.domain.errors import RateLimited
from app.domain.rate import Rate


class CallerTable(Protocol):
    """A number for each caller, 0 for an unknown one."""

    def update(self, caller: str, change: Callable[[float], float]) -> None:
        """Replace a caller's number by `change` of it, atomically."""
        ...


class RateLimit:
    """The same rate for each caller."""

    def __init__(self, rate: Rate, table: CallerTable, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._table = table
        self._clock = clock

    def check(self, caller: str) -> None:
        """Count a request. Raises RateLimited if it comes too early, and then does not count it."""
        early = 0.0

        def admit(tat: float) -> float:
            nonlocal early
            tat, early = self._rate.admit(tat, self._clock())
            return tat

        self._table.update(caller, admit)
        if early > 0:
            raise RateLimited(early)
