"""Cache the tallies of valid segments for the next question that reads the same segments.

A dashboard asks for the last 90 days every half minute, and except for the ends these questions are the same. The rows
and buckets of a valid segment do not change while the generation of the aggregates stays the same. Each statement that
reads an answer also reads the generation. The memory keeps tallies for a minute at most: if a statement ever missed
rows that TimescaleDB was moving, that answer is not repeated for longer.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, MutableMapping
from contextlib import suppress
from typing import Generic, TypeVar

from app.domain.statistics import Tally

P = TypeVar("P")
K = TypeVar("K")
Memory = MutableMapping[P, Mapping[K, Tally]]


class SegmentCache(Generic[P, K]):
    """Tallies of parts in one generation. Callers must not change the tallies."""

    def __init__(self, memory: Memory[P, K]) -> None:
        """`memory` may forget any of its items, and may raise ValueError for one that is too large."""
        self._memory = memory
        self._lock = threading.Lock()
        self._generation: int | None = None

    def get(self, parts: Iterable[P], generation: int | None) -> dict[P, Mapping[K, Tally]]:
        """Return the tallies of those parts that were read in this generation."""
        with self._lock:
            if generation is None or generation != self._generation:
                return {}
            found = {part: self._memory.get(part) for part in parts}
        return {part: tallies for part, tallies in found.items() if tallies is not None}

    def put(self, parts: Mapping[P, Mapping[K, Tally]], generation: int | None) -> None:
        """Keep tallies that were read in this generation, and forget those of another one."""
        if generation is None:
            return
        with self._lock:
            if generation != self._generation:
                self._memory.clear()
                self._generation = generation
            for part, tallies in parts.items():
                with suppress(ValueError):
                    self._memory[part] = tallies
