"""The attributes of events in the binary, the structured and the batched mode. The data of the events is skipped.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

import msgspec
from flask import Request
from msgspec import Raw

from app.presentation.errors import problem
from app.presentation.json_text import check_objects, decode
from app.presentation.middleware.arguments import no_json, unsupported_type
from app.presentation.middleware.request_body import Body
from app.presentation.work_budget import Work

STRUCTURED, BATCHED = "application/cloudevents+json", "application/cloudevents-batch+json"
PREFIX = "ce-"
# The cost of an event beside its bytes, in bytes of JSON.
PRICE = 100
MAX_ATTRIBUTE_BYTES = 16 * 1024
VERSION = "specversion"
_QUOTED, _ESCAPED = re.compile(r'"((?:[^"\\]|\\.)*)"'), re.compile(r"\\(.)")

Event = Mapping[str, str]


def check_mode(request: Request) -> None:
    """Answer 415 if the request is in none of the three modes."""
    if request.mimetype not in (STRUCTURED, BATCHED) and f"{PREFIX}type" not in request.headers:
        unsupported_type(f"{STRUCTURED} or {BATCHED}, or the event's attributes in headers ({PREFIX}id, …)", request)


class EventDecoder:
    """Reads the attributes in `names`."""

    def __init__(self, names: frozenset[str]) -> None:
        self._names = sorted(names | {VERSION})
        # Other attributes are skipped unread; attributes in `names` may have any type at first.
        fields: list[Any] = [(name, Raw, Raw(b"null")) for name in self._names]
        event = msgspec.defstruct("Event", fields, gc=False)
        self._one: msgspec.json.Decoder[Any] = msgspec.json.Decoder(event)
        # The type is made at runtime, and mypy wants one that it can read.
        self._many: msgspec.json.Decoder[list[Any]] = msgspec.json.Decoder(list[event])  # type: ignore[valid-type]

    def read(self, request: Request, body: Body, work: Work) -> Iterator[Event]:
        """The events of a request. Raises OutOfWork.

        Answers 400 if it is no JSON, 413 for too many objects, 422 for another version of CloudEvents than 1.0.
        """
        for event in self._read(request, body, work):
            if event.get(VERSION, "1.0") != "1.0":
                problem(422, errors={"json": {VERSION: ["Must be 1.0."]}})
            yield event

    def _read(self, request: Request, body: Body, work: Work) -> Iterator[Event]:
        if request.mimetype not in (STRUCTURED, BATCHED):
            yield self._of_headers(request)
            return
        check_objects(body.content)
        try:
            if request.mimetype == STRUCTURED:
                decoded = [decode(self._one, body.content, work)]
            else:
                decoded = decode(self._many, body.content, work)
            for event in decoded:
                work.pay(PRICE)
                yield {name: text for name in self._names if (text := _text(getattr(event, name)))}
        except msgspec.ValidationError as error:
            problem(422, errors={"json": {"_schema": [f"{error}."]}})
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            no_json(error)

    def _of_headers(self, request: Request) -> Event:
        sent = {name: request.headers.get(PREFIX + name, "") for name in self._names}
        return {name: text for name, header in sent.items() if (text := _decoded(header))}


def _decoded(header: str) -> str:
    """The attribute in a header: unquoted, because older versions of the binding let clients quote it, then decoded."""
    quoted = _QUOTED.fullmatch(header)
    return unquote(_ESCAPED.sub(r"\1", quoted[1]) if quoted else header)


def _text(raw: Raw) -> str:
    """An attribute as text, as it would stand in a header; empty if it is not given. Raises ValueError for no UTF-8."""
    sent = bytes(raw)
    if len(sent) > MAX_ATTRIBUTE_BYTES:
        return sent[:MAX_ATTRIBUTE_BYTES].decode(errors="replace")
    if sent.startswith(b'"'):
        return msgspec.json.decode(sent, type=str)
    return "" if sent == b"null" else sent.decode()
