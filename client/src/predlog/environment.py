"""Options from environment variables: PREDLOG_FLUSH_INTERVAL for flush_interval, and so on."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from typing import Any

PREFIX = "PREDLOG_"

_YES = ("1", "true", "yes", "on")
_NO = ("0", "false", "no", "off")


def read(kinds: Mapping[str, Callable[[str], Any]]) -> dict[str, Any]:
    """The options that are set, each read as its kind. Raises ValueError that names a variable which cannot be read."""
    options = {}
    for name, kind in kinds.items():
        variable = PREFIX + name.upper()
        text = os.environ.get(variable)
        if text is None or (not text and name != "ledger_dir"):  # there the empty text has a meaning
            continue
        try:
            options[name] = kind(text)
        except (ValueError, TypeError):
            raise ValueError(f"{variable} cannot be read as {_MEANT.get(kind, 'what it should be')}") from None
    return options


def yes_or_no(text: str) -> bool:
    """Raises ValueError for any other text."""
    word = text.strip().lower()
    if word not in _YES + _NO:
        raise ValueError(word)
    return word in _YES


def json_object(text: str) -> dict[str, Any]:
    """Raises ValueError if it is no JSON object."""
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return value


def disabled() -> bool:
    """Whether PREDLOG_DISABLED asks for a client that does nothing."""
    return os.environ.get("PREDLOG_DISABLED", "").strip().lower() in _YES


_MEANT: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    yes_or_no: "1 or 0",
    json_object: "a JSON object",
}
