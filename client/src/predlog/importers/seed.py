"""The table of the FastAPI service that Predlog grew from, as CSV with a line of names.

`COPY (SELECT * FROM …) TO STDOUT (FORMAT csv, HEADER)` writes it. Its times have no offset and are UTC.
"""

from __future__ import annotations

import csv
from typing import BinaryIO

from predlog.importers.records import Found, identifier, instant, record, text_of, truth


def read(file: BinaryIO, name: str) -> Found:
    """The records of the table."""
    with text_of(file) as text:
        for number, row in enumerate(csv.DictReader(text), 2):
            try:
                yield (
                    number,
                    record(
                        model_name=row["model_name"],
                        duration_ms=float(row["duration_ms"]),
                        was_successful=truth(row["was_successful"]),
                        timestamp=instant(row["timestamp"]).isoformat(),
                        request_id=identifier("seed", row["id"], row["model_name"], row["timestamp"]),
                    ),
                )
            except (ValueError, KeyError, AttributeError, TypeError) as error:
                yield number, ValueError(f"not a row of the table: {error}")
