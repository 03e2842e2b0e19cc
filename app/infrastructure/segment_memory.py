"""The memory of the segment cache, bounded in size and in time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

from cachetools import TTLCache

from app.domain.statistics import Tally

# A weight is a number of bins, of some hundred bytes each: at most about 25 MB in each process.
MAX_WEIGHT = 250_000
KEPT_S = 60.0

Tallies = Mapping[Any, Tally]


def segment_memory(monotonic: Callable[[], float] = time.monotonic) -> MutableMapping[Any, Tallies]:
    """Return a mapping that forgets a segment's tallies after a minute, and the least recently used if it is full.

    It raises ValueError for a segment that alone would fill it.
    """
    return TTLCache(MAX_WEIGHT, KEPT_S, timer=monotonic, getsizeof=_weight)


def _weight(tallies: Tallies) -> int:
    return 10 + sum(10 + tally.sketch.weight for tally in tallies.values())
