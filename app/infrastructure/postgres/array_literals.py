"""Columns of values as PostgreSQL's array literals: one parameter for each column, for any number of rows.

https://www.postgresql.org/docs/current/arrays.html#ARRAYS-IO
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

_ENCODER = msgspec.json.Encoder()


def array(values: Sequence[Any]) -> str:
    """Write numbers, booleans, instants, ids or JSON texts as an array literal; None becomes NULL.

    The literal is a JSON array with other brackets. Do not use it for texts with control characters, because
    PostgreSQL does not read JSON's escapes of them.
    """
    return f"{{{_ENCODER.encode(values)[1:-1].decode()}}}"


def text_array(texts: Sequence[str | None]) -> str:
    """Write any texts as an array literal; None becomes NULL.

    Each different text is quoted once, because a batch names few models and versions.
    """
    literals = {text: _quoted(text) for text in set(texts)}
    return f"{{{','.join(map(literals.__getitem__, texts))}}}"


def _quoted(text: str | None) -> str:
    return "NULL" if text is None else '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
