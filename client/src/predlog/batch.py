"""What travels together: encoded records, and the reports of what was lost before them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from predlog.dropped import Dropped, Report
from predlog.record import count_of

if TYPE_CHECKING:
    from predlog.spool_file import Segment


Numbers = tuple[int, ...]  # of the records that a line is about: several, if it is a summary


class Marker:
    """Put on the queue by flush(): once it is out, so is all that was logged before it."""

    def __init__(self) -> None:
        self.passed = False  # polled: an event's lock could be of another kind than the thread that sets it


@dataclass
class Batch:
    """The sender removes records that are stored or dropped; an empty batch is done."""

    lines: list[bytes] = field(default_factory=list)
    numbers: list[Numbers] = field(default_factory=list)  # of the lines, and before them of those that are done
    reports: list[Report] = field(default_factory=list)
    youngest_ns: int = 0
    markers: list[Marker] = field(default_factory=list)
    segment: Segment | None = None
    dropped: Dropped = field(default_factory=Dropped)  # counts those of its records that are dropped

    @property
    def records(self) -> int:
        """How many records the lines that are left are about."""
        return sum(map(count_of, self.lines))

    def left(self) -> list[tuple[Numbers, bytes]]:
        """The lines that are left, with their numbers."""
        return list(zip(self.numbers[len(self.numbers) - len(self.lines) :], self.lines))
