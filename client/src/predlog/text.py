"""Text the service will take: what it would refuse is replaced, so that a failure is never lost for a stray byte."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

NAME_CHARACTERS = 200
UNNAMED = "?"  # the model of records whose own name is not known
ERROR_CHARACTERS = 4096
REPLACEMENT = "\ufffd"

_NUL = "\x00"
_MAX_LINES = 50  # of an exception's notes, parts and causes


def clean(text: str) -> str:
    """The text with each NUL and lone surrogate replaced: PostgreSQL and UTF-8 have no place for them."""
    if _NUL in text:
        text = text.replace(_NUL, REPLACEMENT)
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def printable(text: object) -> str:
    """The text without characters that would drive a terminal or break a line."""
    return "".join(character if character.isprintable() else REPLACEMENT for character in str(text))


def text_of(value: object) -> str:
    """The value's str(), or a note that it failed."""
    try:
        return str(value)
    except KeyboardInterrupt:
        raise
    except BaseException:  # an argument's method must not end the thread: it may raise SystemExit, too
        return "(its str() failed)"


def describe(error: object) -> str:
    """Type and message of an exception, or the text of anything else; never raises, at most 4096 characters.

    An exception's notes, the parts of an exception group, and the cause follow, a line each.
    """
    try:
        if isinstance(error, BaseException):
            return "\n".join(islice(_lines(error, "", set()), _MAX_LINES))[:ERROR_CHARACTERS]
        return text_of(error)[:ERROR_CHARACTERS]
    except KeyboardInterrupt:
        raise
    except BaseException:
        return f"{type(error).__name__}: (it cannot be described)"


def describe_type(error: object) -> str:
    """The type of an exception alone, for hosts whose messages hold what must not be logged."""
    return type(error).__qualname__ if isinstance(error, BaseException) else describe(error)


def _lines(error: BaseException, before: str, seen: set[int]) -> Iterator[str]:
    if id(error) in seen:  # a cause of itself
        return
    seen.add(id(error))
    message = text_of(error)
    yield f"{before}{type(error).__qualname__}{': ' if message else ''}{message}"
    indent = " " * (len(before) - len(before.lstrip()))
    for note in _sequence(error, "__notes__"):
        yield f"{indent}  {text_of(note)}"
    for part in _sequence(error, "exceptions"):  # of an ExceptionGroup
        if isinstance(part, BaseException):
            yield from _lines(part, f"{indent}  ", seen)
    if error.__cause__ is not None:
        yield from _lines(error.__cause__, f"{indent}caused by ", seen)


def _sequence(error: BaseException, name: str) -> list[object]:
    value = getattr(error, name, None)
    return list(islice(value, _MAX_LINES)) if isinstance(value, (list, tuple)) else []
