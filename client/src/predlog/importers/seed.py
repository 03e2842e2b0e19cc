"""The table of the FastAPI service that Predlog grew from, as CSV with a line of names.

`COPY (SELECT * FROM …) TO STDOUT (FORMAT csv, HEADER)` writes it. Its times have no offset and are UTC.
"""

from __future__ import annotations

from typing import BinaryIO

from predlog.importers.records import Found, Record, csv_records, identifier, instant, record, truth


def read(file: BinaryIO, name: str) -> Found:
    """The records of the table."""
    return csv_records(file, "the table", _record)


def _record(row: dict[str, str], number: int) -> Record:
    return record(
        model_name=row["model_name"],
        duration_ms=float(row["duration_ms"]),
        was_successful=truth(row["was_successful"]),
        timestamp=instant(row["timestamp"]).isoformat(),
        request_id=identifier("seed", row["id"], row["model_name"], row["timestamp"]),
    )
