"""Export the logged predictions, oldest first, in constant memory."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from app.application.prediction_list import Cursor, Filters


class Layout(Enum):
    """How a prediction is written as one line of text."""

    NDJSON = "ndjson"
    CSV = "csv"


@dataclass(frozen=True)
class Block:
    """Consecutive predictions, written as lines without line ends, and the cursor of the last one that was looked at.

    There may be no line: so many predictions are looked at for each block.
    """

    lines: list[str]
    last: Cursor


Blocks = Generator[Block, None, None]


class PredictionExport(Protocol):
    """Reads any number of logged predictions."""

    def blocks(self, filters: Filters, after: Cursor | None, layout: Layout) -> Blocks:
        """Yield the predictions that pass the filters, oldest first, from the one after the cursor.

        A prediction that exists during the whole export comes once. Raises StorageUnavailable, also after some blocks.
        """
        ...
