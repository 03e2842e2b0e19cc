"""Spans in protobuf.

The library decodes each span. This module walks through the messages around the spans itself, because the library would
need a hundred times the memory of a body of millions of empty messages.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from typing import Any

from google.protobuf.message import DecodeError
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1 import trace_pb2

from app.presentation.errors import problem
from app.presentation.otlp.spans import EXCEPTION, Span, SpanMapping
from app.presentation.work_budget import Work

# By their numbers: TracesData.resource_spans, ResourceSpans.resource and scope_spans, ScopeSpans.spans.
RESOURCE_SPANS, RESOURCE, SCOPE_SPANS, SPANS = 1, 1, 2, 2
MAX_MESSAGE_BYTES = 4 * 2**20
# The cost of a message, and of an attribute of it, beside its bytes, in bytes of JSON.
PRICE = 20
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_WIDTHS = {_FIXED64: 8, _FIXED32: 4}

Place = tuple[int, int]


class Malformed(Exception):
    """Not protobuf, or not of the type that is expected."""


def read(body: bytes, mapping: SpanMapping, work: Work) -> Iterator[Span]:
    """The spans that may name a model.

    Answers 400 if the body is no protobuf, 413 for a span of more than MAX_MESSAGE_BYTES. Raises OutOfWork.
    """
    try:
        yield from _spans(body, mapping, work)
    except (Malformed, DecodeError):
        problem(400, "The body is not a valid ExportTraceServiceRequest in protobuf.")


def _spans(body: bytes, mapping: SpanMapping, work: Work) -> Iterator[Span]:
    names = [name.encode() for name in mapping.models]
    for group in _fields(body, (0, len(body)), RESOURCE_SPANS, work):
        resource = _resource(body, group, mapping, work)
        for scope in _fields(body, group, SCOPE_SPANS, work):
            for start, end in _fields(body, scope, SPANS, work):
                # Most spans of most services are not of a model, and are not decoded.
                if any(body.find(name, start, end) >= 0 for name in names):
                    span = trace_pb2.Span.FromString(_part(body, (start, end), work))
                    yield _span(span, resource, mapping, work)


def _resource(body: bytes, group: Place, mapping: SpanMapping, work: Work) -> dict[str, Any]:
    place = next(_fields(body, group, RESOURCE, work), None)
    return {} if place is None else _attributes(Resource.FromString(_part(body, place, work)).attributes, mapping, work)


def _part(body: bytes, place: Place, work: Work) -> bytes:
    start, end = place
    if end - start > MAX_MESSAGE_BYTES:
        problem(413, f"A span must be at most {MAX_MESSAGE_BYTES} bytes.")
    work.pay(end - start)
    return body[start:end]


def _span(span: trace_pb2.Span, resource: dict[str, Any], mapping: SpanMapping, work: Work) -> Span:
    has_failed = span.status.code == trace_pb2.Status.STATUS_CODE_ERROR
    return Span(
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        has_failed=has_failed,
        message=span.status.message,
        attributes=_attributes(span.attributes, mapping, work),
        resource=resource,
        exception=_exception(span, work) if has_failed else {},
    )


def _attributes(attributes: Any, mapping: SpanMapping, work: Work) -> dict[str, Any]:
    work.pay(PRICE * len(attributes))
    return {item.key: _value(item.value, work) for item in attributes if mapping.wants(item.key)}


def _exception(span: trace_pb2.Span, work: Work) -> dict[str, Any]:
    """The attributes of the last event that tells of an exception."""
    work.pay(PRICE * len(span.events))
    for event in reversed(span.events):
        if event.name == "exception":
            work.pay(PRICE * len(event.attributes))
            return {item.key: item.value.string_value for item in event.attributes if item.key in EXCEPTION}
    return {}


def _value(value: AnyValue, work: Work) -> Any:
    kind = value.WhichOneof("value")
    if kind in ("array_value", "kvlist_value"):
        work.pay(10 * value.ByteSize())
        return _plain(value)
    return _plain(value)


def _plain(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return [_plain(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return {item.key: _plain(item.value) for item in value.kvlist_value.values}
    found = getattr(value, kind)
    return b64encode(found).decode() if isinstance(found, bytes) else found


def _fields(body: bytes, place: Place, wanted: int, work: Work) -> Iterator[Place]:
    """Yield the places of the messages of field `wanted`. Raises Malformed."""
    at, end = place
    while at < end:
        work.pay(PRICE)
        tag, at = _varint(body, at, end)
        number, kind = tag >> 3, tag & 7
        if number == 0:
            raise Malformed
        if kind == _VARINT:
            _, at = _varint(body, at, end)
            continue
        if kind == _BYTES:
            width, at = _varint(body, at, end)
        elif kind in _WIDTHS:
            width = _WIDTHS[kind]
        else:
            raise Malformed
        if width > end - at:
            raise Malformed
        if kind == _BYTES and number == wanted:
            yield at, at + width
        at += width


def _varint(body: bytes, at: int, end: int) -> Place:
    """Return a number of variable length, and the index of its end."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            break
        byte = body[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise Malformed
