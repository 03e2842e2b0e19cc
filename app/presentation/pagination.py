"""Links from a page of a list to the next one, and the cursors in them."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import urlencode

from flask import request

from app.domain.errors import InvalidInput
from app.domain.predictions import text_problem

MAX_INTEGER = 2**63 - 1


def link_to_next_page(cursor: str) -> str:
    """Return the header Link of a page: the same query with this cursor.

    The address is relative to the address of the request, so it is right behind any proxy that takes a prefix off, and
    the service need not trust a proxy's headers.
    """
    query = {**request.args.to_dict(flat=False), "cursor": cursor}
    return f'<?{urlencode(query, doseq=True)}>; rel="next"'


def encode_cursor(*parts: str | int) -> str:
    """Return a position in a list as text that an address can hold."""
    text = json.dumps(parts, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode_cursor(text: str, *kinds: type[str] | type[int]) -> tuple[Any, ...]:
    """Return the parts of a cursor: of each kind a text that PostgreSQL can keep, or an integer from 1 to MAX_INTEGER.

    Raises InvalidInput.
    """
    try:
        padded = text + "=" * (-len(text) % 4)
        parts = json.loads(base64.b64decode(padded, altchars="-_", validate=True))
    except (ValueError, RecursionError):
        parts = None
    if not isinstance(parts, list) or [type(part) for part in parts] != [*kinds] or not all(map(_is_valid, parts)):
        raise InvalidInput("cursor", "Not a cursor that this service has given out.")
    return tuple(parts)


def _is_valid(part: str | int) -> bool:
    return text_problem(part) is None if isinstance(part, str) else 0 < part <= MAX_INTEGER
