"""How often a caller may call: so many times a second, and so many at once after a pause."""

from __future__ import annotations

from dataclasses import dataclass

# Of the time between two calls: sums of such times are not exact.
ROUNDING = 0.001


@dataclass(frozen=True)
class Allowance:
    """`rate` calls a second in the long run, `burst` of them at once."""

    rate: float
    burst: int

    def admit(self, due: float, now: float) -> tuple[float, float]:
        """Let one call in or not: returns when the next one is due, and how many seconds too early this one came.

        It is let in where that is 0. `due` is what the caller's last call returned, 0 for the first; times are seconds
        of any one clock. This is the generic cell rate algorithm (ITU-T I.371, annex A), a token bucket whose whole
        state is one number, and which is as good as forgotten once that number lies in the past.
        """
        interval = 1 / self.rate
        early = due - now - (self.burst - 1) * interval
        if early > interval * ROUNDING:
            return due, early
        return max(due, now) + interval, 0.0
