"""Limit the work of a batch, so that a body of a few bytes cannot keep a processor busy for long.

Records that msgspec accepts cost little beside storing them. Marshmallow looks at the others, which costs a hundred
times as much for each byte of a short record, and mostly rejects them, with an answer that is longer than the record.
"""

from __future__ import annotations

from typing import NoReturn

from app.application.predictions import Rejected
from app.presentation.errors import problem

# All costs are in bytes of JSON that take about as long to read.
LOOK = 500
FREE = 128 * 1024
# The shortest valid record has 56 bytes: so many of them as a body can hold may be looked at.
FOR_EACH_BYTE = 10
# Records with ids and times are compressed to a seventh.
GZIP_RATIO = 10
TOLD = 3


class OutOfWork(Exception):
    """The budget is used up."""


class Work:
    """The budget of one body."""

    def __init__(self, size: int, sent: int) -> None:
        """`size` bytes long, for which `sent` bytes were sent: less, if it was compressed."""
        self._left = FREE + FOR_EACH_BYTE * min(size, GZIP_RATIO * sent)

    def spend(self, size: int) -> None:
        """Pay for a closer look at a record of `size` bytes. Raises OutOfWork if it is one too many."""
        self.pay(LOOK + size)

    def pay(self, cost: int) -> None:
        """Pay for other work, in bytes of JSON. Raises OutOfWork if it is too much."""
        self._left -= cost
        if self._left < 0:
            raise OutOfWork


def refuse(rejected: Rejected) -> NoReturn:
    """Answer 413 with the first of the rejected records."""
    problem(
        413,
        "Too many records of this batch are invalid, or written unusually, for a body of its size. Nothing is stored; "
        "the first that were rejected are listed. Mend the records, send fewer at once, or send them without gzip.",
        errors={"json": {str(index): rejection.errors for index, rejection in rejected[:TOLD]}},
    )
