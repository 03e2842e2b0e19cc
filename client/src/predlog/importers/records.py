"""What the importers share: a record's fields, its identifier, and how people write truth and time."""

from __future__ import annotations

import io
import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, BinaryIO, TextIO, Union

from predlog.moments import moment
from predlog.text import ERROR_CHARACTERS

NAMESPACE = uuid.UUID("6f9b5f1e-3a44-5c0b-8f5d-0c6d4b6a1f27")
TRUE, FALSE = ("t", "true", "1", "yes"), ("f", "false", "0", "no")

Record = dict[str, Any]
# A record, or an error, by the number of its line or entry.
Found = Iterator[tuple[int, Union[Record, ValueError]]]


@contextmanager
def text_of(file: BinaryIO) -> Iterator[TextIO]:
    """A file of UTF-8 as text with the line ends that it has; the file stays open."""
    wrapper = io.TextIOWrapper(file, "utf-8-sig", newline="")
    try:
        yield wrapper
    finally:
        wrapper.detach()


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
