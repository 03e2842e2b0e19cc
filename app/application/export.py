"""Take the logged calls out, oldest first, in constant memory."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from app.application.prediction_list import Cursor, Filters


class Layout(Enum):
    """How a call is written as one line of text."""

    NDJSON = "ndjson"
    CSV = "csv"


@dataclass(frozen=True)
class Block:
    """Calls that follow each other, written as lines without line ends, and the place of the last one."""

    lines: list[str]
    last: Cursor


Blocks = Generator[Block, None, None]


class PredictionExport(Protocol):
    """Reads logged calls, however many there are."""

    def blocks(self, filters: Filters, after: Cursor | None, layout: Layout) -> Blocks:
        """The calls that pass the filters, oldest first, from the one after the cursor.

        Each call that is there all the while comes once. Raises StorageUnavailable, also after some blocks.
        """
        ...
