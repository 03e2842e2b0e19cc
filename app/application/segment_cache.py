"""Cache the tallies of valid segments for the next question that reads the same segments.

A dashboard asks for the last 90 days every half minute, and except for the ends these questions are the same. The rows
and buckets of a valid segment do not change while the generation of the aggregates stays the same. Each statement that
reads an answer also reads the generation. Tallies are kept for a minute at most: if a statement ever missed rows that
TimescaleDB was moving, that answer is not repeated for longer.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Generic, TypeVar

from app.domain.statistics import Tally

P = TypeVar("P")
K = TypeVar("K")

# A weight is a number of bins, of some hundred bytes each: at most about 25 MB in each process.
MAX_WEIGHT = 250_000
KEPT_S = 60.0


class SegmentCache(Generic[P, K]):
    """Tallies of parts in one generation; the least recently used leave first. Callers must not change the tallies."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._generation: int | None = None
        self._kept: OrderedDict[P, tuple[int, float, Mapping[K, Tally]]] = OrderedDict()
        self._weight = 0

    def get(self, parts: Iterable[P], generation: int | None) -> dict[P, Mapping[K, Tally]]:
        """Return the tallies of those parts that were read in this generation."""
        known: dict[P, Mapping[K, Tally]] = {}
        with self._lock:
            if generation is None or generation != self._generation:
                return known
            oldest = self._monotonic() - KEPT_S
            for part in parts:
                if part in self._kept and self._kept[part][1] > oldest:
                    self._kept.move_to_end(part)
                    known[part] = self._kept[part][2]
        return known

    def put(self, parts: Mapping[P, Mapping[K, Tally]], generation: int | None) -> None:
        """Keep tallies that were read in this generation, and forget those of another one."""
        if generation is None:
            return
        with self._lock:
            if generation != self._generation:
                self._kept.clear()
                self._generation, self._weight = generation, 0
            for part, tallies in parts.items():
                weight = 10 + sum(10 + tally.sketch.weight for tally in tallies.values())
                self._weight += weight - self._kept.pop(part, (0, 0.0, {}))[0]
                self._kept[part] = (weight, self._monotonic(), tallies)
            while self._weight > MAX_WEIGHT:
                _, (given_up, _, _) = self._kept.popitem(last=False)
                self._weight -= given_up
