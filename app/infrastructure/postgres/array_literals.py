"""Columns of values as PostgreSQL's array literals: a parameter each, however many rows there are.

https://www.postgresql.org/docs/current/arrays.html#ARRAYS-IO
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

_ENCODER = msgspec.json.Encoder()


def array(values: Sequence[Any]) -> str:
    """Numbers, booleans, instants, ids or JSON texts, None for NULL.

    A JSON array but for its brackets. Not for texts with control characters: JSON's escapes for them are its own.
    """
    return f"{{{_ENCODER.encode(values)[1:-1].decode()}}}"


def text_array(texts: Sequence[str | None]) -> str:
    """Any texts, None for NULL. Each different one is quoted once: a batch names few models and versions."""
    literals = {text: _quoted(text) for text in set(texts)}
    return f"{{{','.join(map(literals.__getitem__, texts))}}}"


def _quoted(text: str | None) -> str:
    return "NULL" if text is None else '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
