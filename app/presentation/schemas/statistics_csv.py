"""Statistics as CSV: a line for each group or point, a column for each figure; nested figures have dotted names."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from flask import Response

from app.presentation.content_types import CSV, CSV_TYPE

FORMATS = {"json": "application/json", CSV: CSV_TYPE}


def as_csv(lines: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Response:
    """RFC 4180 with a line of column names; `names` are the columns if there is no line."""
    response = Response(_text(lines, names).encode(), content_type=f"{CSV_TYPE}; charset=utf-8; header=present")
    response.vary.add("Accept")
    return response


def csv_content(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How the document shows an answer with such lines."""
    return {CSV_TYPE: {"schema": {"type": "string"}, "example": _text(lines, [])}}


def _text(lines: Sequence[Mapping[str, Any]], names: Sequence[str]) -> str:
    rows = [dict(_flat(line)) for line in lines]
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(rows[0] if rows else names)
    writer.writerows(map(_cell, row.values()) for row in rows)
    return text.getvalue()


def columns(line: Mapping[str, Any]) -> list[str]:
    """The names of the columns of such lines."""
    return [name for name, _ in _flat(line)]


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, part in value.items():
        if isinstance(part, Mapping):
            yield from _flat(part, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", part


def _cell(value: Any) -> Any:
    """Booleans as JSON has them; of None the writer makes nothing, and of numbers what reads back as the same."""
    return str(value).lower() if isinstance(value, bool) else value
