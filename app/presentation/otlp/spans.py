"""Turn a span into a prediction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Any
from uuid import UUID, uuid5

from app.domain.instants import EPOCH
from app.domain.predictions import MAX_ERROR_LENGTH

# A span has the same request id whenever it is sent: the UUIDv5 of its ids in hexadecimal.
NAMESPACE = UUID("dc50e16b-284d-430e-aabb-8c6f15ce5947")
MODEL, VERSION = "predlog.model_name", "predlog.model_version"
SUCCESS, ERROR, REQUEST_ID = "predlog.was_successful", "predlog.error", "predlog.request_id"
METADATA = "predlog.metadata."
OPERATION, ERROR_TYPE = "gen_ai.operation.name", "error.type"
# They name the model that an agent or a tool uses; each call of it has a span of its own below them.
NO_CALLS = ("create_agent", "invoke_agent", "invoke_workflow", "execute_tool")
ALWAYS = (SUCCESS, ERROR, REQUEST_ID, OPERATION, ERROR_TYPE)
EXCEPTION = ("exception.type", "exception.message")
_LATEST_NS = 253_402_300_799_999_999_999  # of the year 9999


@dataclass
class Span:
    """A decoded span. It has only the attributes that the mapping reads; a time of 0 means that it was not sent."""

    trace_id: str
    span_id: str
    start_ns: int
    end_ns: int
    has_failed: bool
    message: str
    attributes: Mapping[str, Any]
    resource: Mapping[str, Any]
    exception: Mapping[str, Any]


@dataclass(frozen=True)
class SpanMapping:
    """The attributes that name the model and its version (the first present one counts), and those kept as metadata."""

    models: tuple[str, ...]
    versions: tuple[str, ...]
    metadata: tuple[str, ...]

    @cached_property
    def _keys(self) -> frozenset[str]:
        return frozenset((*self.models, *self.versions, *self.metadata, *ALWAYS))

    def wants(self, key: str) -> bool:
        """Return whether the value of this attribute is read."""
        return key in self._keys or key.startswith(METADATA)

    def record(self, span: Span) -> dict[str, Any] | None:
        """Return the span as a record of a batch, not checked yet; None if it is no call of a model."""
        values = {key: value for key, value in span.attributes.items() if value not in (None, "")}
        named_by = next((key for key in self.models if key in values), None)
        if named_by is None or (named_by != MODEL and values.get(OPERATION) in NO_CALLS):
            return None
        version = next((values[key] for key in self.versions if key in values and key != named_by), None)
        record = {
            "model_name": _text(values[named_by]),
            "was_successful": values.get(SUCCESS, not span.has_failed),
            "model_version": _text(version),
            "error": _error(span, values),
            "metadata": self._metadata(span, values),
            "request_id": values.get(REQUEST_ID) or request_id(span),
        }
        if span.start_ns:
            record["timestamp"] = (EPOCH + timedelta(microseconds=min(span.start_ns, _LATEST_NS) // 1000)).isoformat()
        if span.end_ns:
            record["duration_ms"] = (span.end_ns - span.start_ns) / 1e6
        return record

    def _metadata(self, span: Span, values: Mapping[str, Any]) -> dict[str, Any]:
        found = {"trace_id": span.trace_id, "span_id": span.span_id}
        found |= {key: source[key] for source in (span.resource, values) for key in self.metadata if key in source}
        return found | {key[len(METADATA) :]: values[key] for key in values if key.startswith(METADATA)}


def request_id(span: Span) -> str:
    """Return the UUIDv5 of a span's ids; an invalid UUID if they are not as OpenTelemetry has them, or all zeros."""
    if not (_is_id(span.trace_id, 32) and _is_id(span.span_id, 16)):
        return f"{span.trace_id}-{span.span_id}"
    return str(uuid5(NAMESPACE, span.trace_id + span.span_id))


def _is_id(text: str, length: int) -> bool:
    return len(text) == length and text.strip("0") != ""


def _text(value: Any) -> Any:
    """A number as text, since attributes have types; anything else as it is."""
    return str(value) if type(value) in (int, float) else value


def _error(span: Span, values: Mapping[str, Any]) -> Any:
    # The text of an exception may be too long for this log: its beginning is better than a refusal.
    if ERROR in values:
        error = values[ERROR]
        return error[:MAX_ERROR_LENGTH] if isinstance(error, str) else error
    if not span.has_failed:
        return None
    exception = ": ".join(str(span.exception[key]) for key in EXCEPTION if span.exception.get(key))
    return str(span.message or exception or values.get(ERROR_TYPE) or "")[:MAX_ERROR_LENGTH] or None
