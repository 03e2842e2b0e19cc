"""Statistics as CSV: a line for each group or point, a column for each figure; nested figures have dotted names."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from flask import Response

from app.domain.statistics import Tally
from app.presentation.content_types import CSV, CSV_TYPE
from app.presentation.schemas.statistics import tallied

FORMATS = {"json": "application/json", CSV: CSV_TYPE}


# It has every figure: a share under a duration has three columns, but is a single null in a tally without durations.
ONE_PREDICTION = Tally(total=1, successful=1, duration_ms_min=1.0, duration_ms_max=1.0)


def as_csv(lines: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Response:
    """RFC 4180 with a line of column names; a figure that a line lacks is empty."""
    response = Response(_text(lines, names).encode(), content_type=f"{CSV_TYPE}; charset=utf-8; header=present")
    response.vary.add("Accept")
    return response


def csv_content(line: Mapping[str, Any]) -> dict[str, Any]:
    """How the document shows an answer with such a line."""
    return {CSV_TYPE: {"schema": {"type": "string"}, "example": _text([line], list(dict(_flat(line))))}}


def columns(percentiles: Sequence[float], under_ms: Sequence[float]) -> list[str]:
    """The names of the columns of tallies with these measures."""
    return list(dict(_flat(tallied(ONE_PREDICTION, percentiles, under_ms))))


def _text(lines: Sequence[Mapping[str, Any]], names: Sequence[str]) -> str:
    text = io.StringIO(newline="")
    # Of the values of a line only such a null has no column; then its three columns are empty.
    writer = csv.DictWriter(text, names, extrasaction="ignore")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in _flat(line)} for line in lines)
    return text.getvalue()


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, part in value.items():
        if isinstance(part, Mapping):
            yield from _flat(part, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", part


def _cell(value: Any) -> Any:
    """Booleans as JSON has them; of None the writer makes nothing, and of numbers what reads back as the same."""
    return str(value).lower() if isinstance(value, bool) else value
