"""Spans in JSON, as protobuf's mapping has it with OTLP's exceptions: ids in hexadecimal, 64-bit numbers as text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from msgspec import Raw, Struct

from app.presentation.errors import problem
from app.presentation.json_text import check_objects, decode
from app.presentation.otlp.protobuf import PRICE
from app.presentation.otlp.spans import EXCEPTION, Span, SpanMapping
from app.presentation.work_budget import Work

STATUS_ERROR = 2
_NULL = Raw(b"null")


class _KeyValue(Struct, gc=False):
    key: str = ""
    value: Raw = _NULL


class _Status(Struct, gc=False):
    code: int | None = None
    message: str | None = None


class _Event(Struct, gc=False):
    name: str | None = None
    attributes: list[_KeyValue] | None = None


class _Span(Struct, gc=False, rename="camel"):
    trace_id: str | None = None
    span_id: str | None = None
    start_time_unix_nano: int | str | None = None
    end_time_unix_nano: int | str | None = None
    attributes: list[_KeyValue] | None = None
    events: list[_Event] | None = None
    status: _Status | None = None


class _Resource(Struct, gc=False):
    attributes: list[_KeyValue] | None = None


class _ScopeSpans(Struct, gc=False):
    spans: list[_Span] | None = None


class _ResourceSpans(Struct, gc=False, rename="camel"):
    resource: _Resource | None = None
    scope_spans: list[_ScopeSpans] | None = None


class _Request(Struct, gc=False, rename="camel"):
    resource_spans: list[_ResourceSpans] | None = None


class _Values(Struct, gc=False):
    values: list[_AnyValue] | None = None


class _Item(Struct, gc=False):
    key: str = ""
    value: _AnyValue | None = None


class _Items(Struct, gc=False):
    values: list[_Item] | None = None


class _AnyValue(Struct, gc=False, rename="camel"):
    string_value: str | None = None
    bool_value: bool | None = None
    int_value: int | str | None = None
    double_value: float | str | None = None
    array_value: _Values | None = None
    kvlist_value: _Items | None = None
    bytes_value: str | None = None


_REQUEST = msgspec.json.Decoder(_Request)
_VALUE = msgspec.json.Decoder(_AnyValue | None)
_NOT_READ = (msgspec.DecodeError, ValueError, RecursionError)


def read(body: bytes, mapping: SpanMapping, work: Work) -> Iterator[Span]:
    """Yield the spans. Answers 400 for undocumented JSON, 413 for too many objects. Raises OutOfWork."""
    check_objects(body)
    try:
        for group in decode(_REQUEST, body, work).resource_spans or ():
            resource = _attributes(group.resource.attributes if group.resource else None, mapping, work)
            for scope in group.scope_spans or ():
                for span in scope.spans or ():
                    yield _span(span, resource, mapping, work)
    except _NOT_READ as error:
        reason = f": {error}" if isinstance(error, msgspec.ValidationError) else "."
        problem(400, f"The body is not a valid ExportTraceServiceRequest in JSON{reason}")


def _span(span: _Span, resource: dict[str, Any], mapping: SpanMapping, work: Work) -> Span:
    has_failed = span.status is not None and span.status.code == STATUS_ERROR
    return Span(
        trace_id=(span.trace_id or "").lower(),
        span_id=(span.span_id or "").lower(),
        start_ns=_number(span.start_time_unix_nano),
        end_ns=_number(span.end_time_unix_nano),
        has_failed=has_failed,
        message=(span.status and span.status.message) or "",
        attributes=_attributes(span.attributes, mapping, work),
        resource=resource,
        exception=_exception(span.events or (), work) if has_failed else {},
    )


def _attributes(attributes: Sequence[_KeyValue] | None, mapping: SpanMapping, work: Work) -> dict[str, Any]:
    work.pay(PRICE * (1 + len(attributes or ())))
    return {item.key: _value(item.value, work) for item in attributes or () if mapping.wants(item.key)}


def _exception(events: Sequence[_Event], work: Work) -> dict[str, Any]:
    event = next((event for event in reversed(events) if event.name == "exception"), None)
    attributes = event.attributes or () if event else ()
    return {item.key: _value(item.value, work) for item in attributes if item.key in EXCEPTION}


def _value(raw: Raw, work: Work) -> Any:
    """Return the value of an attribute. A value that is no AnyValue makes its span invalid, and no other."""
    try:
        value = _VALUE.decode(raw)
        if value is not None and (value.array_value is not None or value.kvlist_value is not None):
            work.pay(10 * len(bytes(raw)))
        return _plain(value)
    except _NOT_READ:
        return [bytes(raw)[:50].decode(errors="replace")]


def _plain(value: _AnyValue | None) -> Any:
    if value is None:
        return None
    if value.int_value is not None:
        return _number(value.int_value)
    if value.double_value is not None:
        return float(value.double_value)
    if value.array_value is not None:
        return [_plain(item) for item in value.array_value.values or ()]
    if value.kvlist_value is not None:
        return {item.key: _plain(item.value) for item in value.kvlist_value.values or ()}
    kinds = (value.string_value, value.bool_value, value.bytes_value)
    return next((kind for kind in kinds if kind is not None), None)


def _number(value: int | str | None) -> int:
    """A whole number, as text if it has 64 bits. Raises ValueError."""
    if isinstance(value, str) and len(value) > 20:
        raise ValueError
    number = int(value or 0)
    if not -(2**63) <= number < 2**64:
        raise ValueError
    return number
