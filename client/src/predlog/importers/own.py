"""An export of Predlog: NDJSON, CSV or Parquet. All fields are kept, but for the id, which the service gives anew.

A record that had no request_id gets one made from its id, time, model and duration: so a repeated import adds nothing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from typing import BinaryIO

from predlog.importers.records import Found, Record, csv_records, identifier, record

COLUMNS = ("timestamp", "model_name", "duration_ms", "was_successful", "metadata")  # that every export has


def read(file: BinaryIO, name: str) -> Found:
    """The records of an export, whose format is known by its name."""
    suffix = os.path.splitext(name)[1].lower()
    if suffix == ".csv":
        return csv_records(file, "an export", lambda row, number: _complete(_typed(row), number), strict=True)
    return _parquet(file) if suffix == ".parquet" else _ndjson(file)


def _ndjson(file: Iterable[bytes]) -> Found:
    for number, line in enumerate(file, 1):
        if line.strip():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                row = None
            if not isinstance(row, dict):
                yield number, ValueError("not a JSON object")
                continue
            try:
                yield number, _complete(row, number)
            except (ValueError, KeyError, AttributeError, TypeError) as error:
                yield number, ValueError(f"not a row of an export: {error}")


def _parquet(file: BinaryIO) -> Found:
    try:
        from pyarrow import parquet
    except ImportError:
        raise ValueError("Parquet needs pyarrow: pip install 'predlog[parquet]'") from None
    whole = parquet.ParquetFile(file)
    for column in COLUMNS:
        if column not in whole.schema_arrow.names:
            raise ValueError(f"not an export: it lacks the column {column}")
    number = 0
    for batch in whole.iter_batches(batch_size=1000):
        for row in batch.to_pylist():
            number += 1
            try:
                row["timestamp"] = row["timestamp"].isoformat(timespec="microseconds")
                row["metadata"] = json.loads(row["metadata"]) if row["metadata"] else None
                yield number, _complete(row, number)
            except (ValueError, AttributeError, TypeError) as error:
                yield number, ValueError(f"not a row of an export: {error}")


def _typed(row: dict[str, str]) -> Record:
    return {
        **row,
        "duration_ms": float(row["duration_ms"]),
        "was_successful": json.loads(row["was_successful"]),
        "metadata": json.loads(row["metadata"]) if row["metadata"] else None,
        "error": row["error"] or None,
    }


def _complete(row: Record, number: int) -> Record:
    old = row.pop("id", None) or f"line {number}"
    if not row.get("request_id"):
        row["request_id"] = identifier(
            "predlog", old, row.get("timestamp"), row.get("model_name"), float(row["duration_ms"])
        )
    # Also an empty text, and what is empty in metadata.
    whole = {name: row[name] for name in ("error", "metadata") if row.get(name) is not None}
    return {**record(**row), **whole}
