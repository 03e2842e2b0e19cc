"""Limit how often a caller may send requests: a rate, and a burst after a pause."""

from __future__ import annotations

from dataclasses import dataclass

# As a share of the interval: a request that is early by less is admitted, because sums of intervals are not exact.
ROUNDING = 0.001


@dataclass(frozen=True)
class Rate:
    """`rate` requests a second in the long run, `burst` of them at once."""

    rate: float
    burst: int

    def admit(self, tat: float, now: float) -> tuple[float, float]:
        """Decide on one request; return the next theoretical arrival time, and by how many seconds it came too early.

        The request is admitted if the second number is 0. `tat` is the theoretical arrival time that the caller's last
        request returned, 0 for the first one. All times are seconds of one clock. This is the generic cell rate
        algorithm (ITU-T I.371, annex A), a token bucket whose whole state is one number. A number in the past has no
        effect, so it can be forgotten.
        """
        interval = 1 / self.rate
        early = tat - now - (self.burst - 1) * interval
        if early > interval * ROUNDING:
            return tat, early
        return max(tat, now) + interval, 0.0
