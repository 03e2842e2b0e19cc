"""What has been read of hours that are settled, kept for the next question about them.

A dashboard asks for the last 90 days every half minute: but for the ends, these are the same hours each time. What the
hour and day aggregates hold does not change while the generation of the aggregates stays the same, and the generation
is read in the same statement as the rest of an answer.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from typing import Generic, TypeVar

from app.domain.statistics import Tally

K = TypeVar("K")

# Weights are bins, of some hundred bytes each: about 25 MB a process at most.
WEIGHT_AT_MOST = 250_000


class SettledTallies(Generic[K]):
    """Tallies by what was asked, of one generation, the least recently used given up first. They are not changed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._generation: int | None = None
        self._kept: OrderedDict[Hashable, tuple[int, Mapping[K, Tally]]] = OrderedDict()
        self._weight = 0

    def get(self, question: Hashable, generation: int | None) -> Mapping[K, Tally] | None:
        """What is known, if it is of this generation."""
        with self._lock:
            if generation is None or generation != self._generation or question not in self._kept:
                return None
            self._kept.move_to_end(question)
            return self._kept[question][1]

    def put(self, question: Hashable, generation: int | None, tallies: Mapping[K, Tally]) -> None:
        """Keep what was read in this generation; what is of another one is forgotten."""
        if generation is None:
            return
        weight = 10 + sum(10 + tally.sketch.weight for tally in tallies.values())
        with self._lock:
            if generation != self._generation:
                self._kept.clear()
                self._generation, self._weight = generation, 0
            self._weight += weight - self._kept.pop(question, (0, {}))[0]
            self._kept[question] = (weight, tallies)
            while self._weight > WEIGHT_AT_MOST:
                _, (given_up, _) = self._kept.popitem(last=False)
                self._weight -= given_up
