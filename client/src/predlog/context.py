"""What the caller's thread knows about a call beyond its arguments: fields of a context, and the current trace."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

Enrich = Callable[[Any], Any]

_fields: ContextVar[dict[str, Any]] = ContextVar("predlog")


@contextmanager
def fields(**more: Any) -> Iterator[None]:
    """Add these fields to the metadata of records that are logged inside, also by tasks that are started there."""
    before = _fields.get({})
    within = {**before, **more}
    token = _fields.set(within)
    try:
        yield
    finally:
        try:
            _fields.reset(token)
        except ValueError:  # it ends in another context than it began in, as FastAPI's dependencies in threads do
            if _fields.get(None) is within:  # that context is a copy of this block's, and not another request's
                _fields.set(before)


def traced() -> bool:
    """Whether the program uses OpenTelemetry."""
    return "opentelemetry.trace" in sys.modules


def enrich(metadata: dict[Any, Any] | None) -> dict[Any, Any] | None:
    """The metadata with the fields of the context; what the prediction says itself has precedence."""
    more = _fields.get(None)
    return {**more, **(metadata or {})} if more else metadata


def enrich_with_trace(metadata: dict[Any, Any] | None) -> dict[Any, Any] | None:
    """The same with trace_id and span_id of OpenTelemetry's current span, if there is one."""
    metadata = enrich(metadata)
    try:
        from opentelemetry import trace

        span = trace.get_current_span().get_span_context()
        if span.is_valid:
            ids = {"trace_id": f"{span.trace_id:032x}", "span_id": f"{span.span_id:016x}"}
            return {**ids, **(metadata or {})}
    except Exception:  # an error of OpenTelemetry must not reach the program
        pass
    return metadata
