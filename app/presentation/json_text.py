"""Decode the JSON of other programs with msgspec."""

from __future__ import annotations

import re
from typing import TypeVar

import msgspec

from app.presentation.errors import problem
from app.presentation.work_budget import Work

T = TypeVar("T")

# Each takes a hundred bytes of memory. 10,000 spans of 24 attributes have as many.
MAX_OBJECTS = 500_000
# The cost of an escape, in bytes of JSON.
PRICE = 20
_HIGH, _LOW = rb"\\u[dD][89abAB][0-9a-fA-F]{2}", rb"\\u[dD][c-fC-F][0-9a-fA-F]{2}"
_ESCAPE = re.compile(_HIGH + _LOW + rb"|\\u[0-9a-fA-F]{4}|\\.", re.DOTALL)
_HALF = re.compile(_HIGH + b"|" + _LOW)


def check_objects(body: bytes) -> None:
    """Answer 413 for a body with so many objects that they would take far more memory than the body itself."""
    if body.count(b"{") > MAX_OBJECTS:
        problem(413, f"A body must have at most {MAX_OBJECTS} JSON objects: send fewer records at once.")


def decode(decoder: msgspec.json.Decoder[T], body: bytes, work: Work) -> T:
    """Decode a body, U+FFFD in place of half a character: JavaScript sends one if it cut a text in the middle of it.

    Raises what the decoder raises, and OutOfWork.
    """
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        work.pay(PRICE * body.count(b"\\"))
        whole = _ESCAPE.sub(lambda escape: rb"\ufffd" if _HALF.fullmatch(escape[0]) else escape[0], body)
        return decoder.decode(whole)
