"""No caller may call so often that there is nothing left for the others."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from app.domain.errors import RateLimited
from app.domain.rate import Allowance


class CallerTable(Protocol):
    """A number for each caller, 0 for one that is not known."""

    def update(self, caller: str, change: Callable[[float], float]) -> None:
        """Replace a caller's number by what `change` makes of it, with nobody in between."""
        ...


class RateLimit:
    """One allowance for each caller."""

    def __init__(self, allowance: Allowance, table: CallerTable, clock: Callable[[], float] = time.monotonic) -> None:
        self._allowance = allowance
        self._table = table
        self._clock = clock

    def check(self, caller: str) -> None:
        """Count a call. Raises RateLimited where it comes too early; it is then not counted."""
        early = 0.0

        def admit(due: float) -> float:
            nonlocal early
            due, early = self._allowance.admit(due, self._clock())
            return due

        self._table.update(caller, admit)
        if early > 0:
            raise RateLimited(early)
