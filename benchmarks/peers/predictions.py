"""Made-up predictions of a model, in the shapes that the systems take, and what is true of them.

The n-th prediction starts n milliseconds after START and took `duration_ms(n)`; one in fifty failed. So in SQL.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

MODEL = "apartment_price"
START = datetime(2026, 3, 1, tzinfo=timezone.utc)
PERCENTILES = (50, 95, 99)
# Exponential durations with a mean of 50 ms.
SQL_DURATION = "round((-50 * ln(1 - (n * 7919 % 1000003) / 1000004.0))::numeric, 3)::float8"

Answer = dict[str, float]


def duration_ms(n: int) -> float:
    """The duration of the n-th prediction, in milliseconds."""
    return round(-50 * math.log(1 - (n * 7919 % 1000003) / 1000004.0), 3)


def cut(count: int) -> tuple[datetime, datetime]:
    """A range of about half of so many predictions, cut to the second."""
    seconds = count // 1000
    return START + timedelta(seconds=seconds // 4 + 1), START + timedelta(seconds=seconds * 3 // 4 + 2)


def truth(count: int) -> Answer:
    """What is true of the first so many predictions within `cut`."""
    first, last = (int((moment - START).total_seconds() * 1000) for moment in cut(count))
    numbers = range(first, last)
    durations = sorted(map(duration_ms, numbers))
    answer = {"count": float(len(numbers)), "errors": float(sum(n % 50 == 0 for n in numbers))}
    for percentile in PERCENTILES:
        place = percentile / 100 * (len(durations) - 1)
        low, high = durations[int(place)], durations[math.ceil(place)]
        answer[f"p{percentile}"] = low + (high - low) * (place - int(place))
    return answer


def records(numbers: Iterable[int]) -> bytes:
    """Predictions as Predlog's batches have them."""
    return json.dumps([_record(n) for n in numbers]).encode()


def record(n: int) -> bytes:
    """One prediction as Predlog takes it."""
    return json.dumps(_record(n)).encode()


def _record(n: int) -> dict[str, Any]:
    failed = n % 50 == 0
    error = {"error": "ValueError: no rooms"} if failed else {}
    return {
        "model_name": MODEL, "duration_ms": duration_ms(n), "was_successful": not failed,
        "timestamp": (START + timedelta(milliseconds=n)).isoformat(), **error,
    }  # fmt: skip


def spans(numbers: Iterable[int]) -> bytes:
    """Predictions as OTLP, each a trace of one span."""
    request = ResourceSpans(scope_spans=[ScopeSpans(spans=map(_span, numbers))])
    request.resource.attributes.append(KeyValue(key="service.name", value=AnyValue(string_value="peers")))
    return ExportTraceServiceRequest(resource_spans=[request]).SerializeToString()


def _span(n: int) -> Span:
    start = int(START.timestamp()) * 10**9 + n * 10**6
    failed = n % 50 == 0
    return Span(
        trace_id=random.randbytes(16), span_id=random.randbytes(8), name=MODEL, start_time_unix_nano=start,
        end_time_unix_nano=start + int(duration_ms(n) * 1e6),
        status=Status(code=2, message="ValueError: no rooms") if failed else Status(code=1),
    )  # fmt: skip
