"""UUIDv7 (RFC 9562, section 5.7): drawn in the caller's thread as two integers, spelled out later off it."""

from __future__ import annotations

import itertools
import os
import random
import time
from collections.abc import Callable

# A generator of our own: hosts seed the shared one, and then every worker would draw the same identifiers.
_random = random.Random()
draw = _random.getrandbits
fraction = _random.random

NUMBER_BITS = 32  # counted for each call from a random start; the other 30 are drawn once for the process
_PROCESS = _random.getrandbits(30) << NUMBER_BITS

reseed = _random.seed

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=reseed)


def numbers() -> Callable[[], int]:
    """A counter from a random start: each child of a fork needs its own, or it would count in step with its parent."""
    return itertools.count(draw(NUMBER_BITS - 1)).__next__


def spell(time_ns: int, bits: int) -> str:
    """The UUIDv7 of a moment (ns since 1970) and the number counted for it, or other bits, at most 62.

    The 12 bits after the version hold the fraction of the millisecond (RFC 9562, section 6.2, method 3), so what one
    thread draws sorts in the order it was drawn, as long as the clock is not set back.
    """
    milliseconds, rest = divmod(time_ns, 1_000_000)
    high = (milliseconds & 0xFFFF_FFFF_FFFF) << 16 | 0x7000 | rest * 4096 // 1_000_000
    text = f"{high:016x}{0x8000_0000_0000_0000 | _PROCESS | bits:016x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def uuid7() -> str:
    """A new UUIDv7."""
    return spell(time.time_ns(), draw(NUMBER_BITS))
