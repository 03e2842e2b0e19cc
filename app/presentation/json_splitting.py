"""Split a body into records one by one, because it may have millions of them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from app.presentation.errors import problem
from app.presentation.middleware.arguments import DECODER, MAX_RECORD_BYTES, loads, no_json
from app.presentation.middleware.request_body import BYTE_ORDER_MARK

_SPACE = re.compile(r"[ \t\r\n]*")
_LINE = re.compile(rb"[ \t\r\n]*([^ \t\r\n][^\n]*)")


def lines(body: bytes) -> Iterator[bytes]:
    """The lines that are not blank, without a byte order mark: each of several files that were joined may have one."""
    # Up to the last that is not blank, so that the pattern is never tried in vain.
    found = (match[1] for match in _LINE.finditer(body, 0, len(body.rstrip(b" \t\r\n"))))
    if BYTE_ORDER_MARK not in body:
        return found
    return filter(None, (line.removeprefix(BYTE_ORDER_MARK).strip(b" \t\r\n") for line in found))


def elements(body: bytes) -> Iterator[bytes]:
    """Yield the elements of a JSON array.

    Answers 400 for invalid JSON, 422 for no array, 413 for an element too long.
    """
    try:
        text = body.decode()
        end = _skip_space(text, 0)
        if text[end : end + 1] != "[":
            loads(text)
            problem(422, errors={"json": {"_schema": ["Must be an array of records."]}})
        start = _skip_space(text, end + 1)
        window = _Window(text)
        while text[start : start + 1] != "]":
            end = window.end_of_value(start)
            yield text[start:end].encode()
            end = _skip_space(text, end)
            start = _skip_space(text, end + 1)
            if text[end : end + 1] == "]":
                start = end
            elif text[end : end + 1] != "," or text[start : start + 1] == "]":
                raise json.JSONDecodeError("Expecting ',' delimiter", text, end)
        if text[start + 1 :].strip(" \t\r\n"):
            raise json.JSONDecodeError("Extra data", text, start + 1)
    except (ValueError, RecursionError) as error:
        no_json(error)


class _Window:
    """The part of a text that is decoded: decoded, an element takes thirty times its length in memory."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._start, self._part = 0, ""

    def end_of_value(self, start: int) -> int:
        """Return the end of the value that begins at `start`.

        Raises ValueError for invalid JSON; answers 413 if too long.
        """
        end = self._start + len(self._part)
        if start + MAX_RECORD_BYTES > end < len(self._text):
            self._start, self._part = start, self._text[start : start + 2 * MAX_RECORD_BYTES]
            end = start + len(self._part)
        try:
            return self._start + DECODER.raw_decode(self._part, start - self._start)[1]
        except json.JSONDecodeError as error:
            at = self._start + error.pos
            if end < len(self._text) and (error.msg.startswith("Unterminated") or at > end - 10):
                problem(413, f"A record must be at most {MAX_RECORD_BYTES} bytes.")
            raise json.JSONDecodeError(error.msg, self._text, at) from None


def _skip_space(text: str, start: int) -> int:
    return _SPACE.match(text, start).end()  # type: ignore[union-attr]  # it matches everywhere
