"""Text the service will take: what it would refuse is replaced, so that a failure is never lost for a stray byte."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

NAME_CHARACTERS = 200
ERROR_CHARACTERS = 4096
METADATA_BYTES = 4096
MOST_ARRAY_ITEMS = 1000

_NUL = "\x00"
_REPLACEMENT = "\ufffd"
_ESCAPED_NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")


def clean(text: str) -> str:
    """The text with each NUL and lone surrogate replaced: PostgreSQL and UTF-8 have no place for them."""
    if _NUL in text:
        text = text.replace(_NUL, _REPLACEMENT)
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def describe(error: object) -> str:
    """Type and message of an exception, or the text of anything else; never raises, at most 4096 characters."""
    try:
        message = str(error)
    except Exception:
        message = "(its str() failed)"
    if isinstance(error, BaseException):
        kind = type(error).__qualname__
        message = f"{kind}: {message}" if message else kind
    return message[:ERROR_CHARACTERS]


def metadata_json(metadata: Mapping[Any, Any]) -> bytes:
    """Metadata as compact UTF-8 JSON of at most 4096 bytes; what does not fit gives way to a note, not to an error."""
    try:
        text = _encode(metadata if isinstance(metadata, dict) else dict(metadata))
    except (TypeError, ValueError):
        try:
            text = _encode(_tidy(metadata))
        except Exception as error:
            return _left_out(f"not JSON ({type(error).__name__})")
    except Exception as error:
        return _left_out(f"not JSON ({type(error).__name__})")
    data = _ESCAPED_NUL.sub(r"\1" + _REPLACEMENT, text).encode("utf-8", "replace")
    if len(data) > METADATA_BYTES:
        return _left_out(f"{len(data)} bytes of JSON, more than {METADATA_BYTES}")
    return data


def _left_out(why: str) -> bytes:
    return _encode({"predlog_left_out": why}).encode()


def _plain(value: Any) -> Any:
    """What JSON has no word for: dates, NumPy's scalars and arrays, sets; anything else by its str()."""
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if hasattr(value, "tolist") and getattr(value, "size", 0) <= MOST_ARRAY_ITEMS:
        return value.tolist()
    return list(value) if isinstance(value, (set, frozenset)) else str(value)


def _tidy(value: Any) -> Any:
    """A copy that JSON can say: string keys, null for NaN and the infinities."""
    if value is None or isinstance(value, (str, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _tidy(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_tidy(item) for item in value]
    return _tidy(_plain(value))


_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=_plain).encode
