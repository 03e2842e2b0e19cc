"""What the importers share: a record's fields, its identifier, and how people write truth and time."""

from __future__ import annotations

import csv
import io
import json
import uuid
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any, BinaryIO, Union

from predlog.moments import moment
from predlog.text import ERROR_CHARACTERS

NAMESPACE = uuid.UUID("6f9b5f1e-3a44-5c0b-8f5d-0c6d4b6a1f27")
TRUE, FALSE = ("t", "true", "1", "yes"), ("f", "false", "0", "no")

Record = dict[str, Any]
# A record, or an error, by the number of its line or entry.
Found = Iterator[tuple[int, Union[Record, ValueError]]]


def csv_records(
    file: BinaryIO, what: str, make: Callable[[dict[str, str], int], Record], *, strict: bool = False
) -> Found:
    """What `make` makes of each row and its number; a row that is cut or no UTF-8 is an error among them.

    `strict` refuses other quotes than RFC 4180 has, and a last row without a line end. Raises ValueError or csv.Error
    if there are no names of columns.
    """
    for number, row in enumerate(_rows(file, strict), 2):
        try:
            if isinstance(row, ValueError):
                raise row
            yield number, make(row, number)
        except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
            yield number, ValueError(f"not a row of {what}: {error}")


def _rows(file: BinaryIO, strict: bool) -> Iterator[dict[str, str] | ValueError]:
    csv.field_size_limit(2**31 - 1)  # a row may hold messages and responses
    # Bytes that are no UTF-8 get through to their row: an error of the decoder would cost the rows around it.
    text = io.TextIOWrapper(file, "utf-8-sig", "surrogateescape", newline="")
    line = ""

    def lines() -> Iterator[str]:
        nonlocal line
        for each in text:
            line = each
            yield each

    try:
        rows = csv.DictReader(lines(), strict=strict)
        _check_utf8(rows.fieldnames or ())
        while True:
            try:
                row = next(rows)
                if None in row or None in row.values():
                    raise ValueError("it has not as many fields as there are names")
                if strict and not line.endswith("\n"):
                    raise ValueError("it may be cut, for it has no line end")
                _check_utf8(row.values())
                yield row
            except StopIteration:
                return
            except (ValueError, csv.Error) as error:
                yield ValueError(str(error))
    finally:
        text.detach()  # the file stays open


def _check_utf8(texts: Iterable[str]) -> None:
    try:
        "".join(texts).encode()
    except UnicodeEncodeError:
        raise ValueError("it is not UTF-8") from None


def identifier(source: str, *parts: object) -> str:
    """The same request_id for the same prediction in every import of it."""
    return str(uuid.uuid5(NAMESPACE, json.dumps([source, *map(str, parts)])))


def record(**fields: Any) -> Record:
    """A record without the fields that are None or empty."""
    if fields.get("metadata"):
        fields["metadata"] = {name: value for name, value in fields["metadata"].items() if value not in (None, "")}
    if fields.get("error"):
        fields["error"] = str(fields["error"])[:ERROR_CHARACTERS]
    return {name: value for name, value in fields.items() if value not in (None, "", {})}


def truth(text: str) -> bool:
    """A boolean as databases write it. Raises ValueError."""
    if text.strip().lower() in TRUE:
        return True
    if text.strip().lower() in FALSE:
        return False
    raise ValueError(f"not true or false: {text!r}")


def instant(text: str) -> datetime:
    """An ISO 8601 time; without an offset it is UTC. Raises ValueError."""
    return moment(text.strip())
