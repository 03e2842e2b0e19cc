"""Traces of MLflow as JSON: what `Trace.to_json()` writes, in an array, one a line, or a single one.

docs/import.md has the mapping. Inputs, outputs and attributes of spans are left behind.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any, BinaryIO

from predlog.importers.records import Found, Record, identifier, instant, record


def read(file: BinaryIO, name: str) -> Found:
    """The records of the traces."""
    for number, trace in enumerate(_traces(file), 1):
        try:
            if isinstance(trace, ValueError):
                raise trace
            yield number, _record(trace)
        except (ValueError, KeyError, AttributeError, TypeError, OverflowError, RecursionError) as error:
            yield number, ValueError(f"not a finished trace: {error}")


def _traces(file: BinaryIO) -> Iterator[Any]:
    text = file.read()
    try:
        whole = json.loads(text)
        yield from whole if isinstance(whole, list) else [whole]
        return
    except (ValueError, RecursionError):
        pass
    for line in text.splitlines():
        if line.strip():
            try:
                yield json.loads(line)
            except (ValueError, RecursionError):
                yield ValueError("not JSON")


def _record(trace: Any) -> Record:
    trace = json.loads(trace) if isinstance(trace, str) else trace
    info = trace["info"]
    tags, more = info.get("tags") or {}, info.get("trace_metadata") or info.get("request_metadata") or {}
    trace_id = info.get("trace_id") or info["request_id"]
    state = info.get("state") or info["status"]
    if state not in ("OK", "ERROR"):
        raise ValueError(f"its state is {state}")
    usage = more.get("mlflow.trace.tokenUsage")
    return record(
        model_name=tags.get("mlflow.traceName") or "mlflow",
        model_version=more.get("mlflow.modelId"),
        duration_ms=_milliseconds(info),
        was_successful=state == "OK",
        timestamp=_start(info).isoformat(),
        error=_error(trace) if state == "ERROR" else None,
        metadata={
            "trace_id": trace_id,
            "session": more.get("mlflow.trace.session"),
            "token_usage": json.loads(usage) if usage else None,
        },
        request_id=identifier("mlflow", trace_id),
    )


def _start(info: dict[str, Any]) -> datetime:
    if "request_time" in info:
        return instant(info["request_time"])
    return datetime.fromtimestamp(info["timestamp_ms"] / 1000, timezone.utc)


def _milliseconds(info: dict[str, Any]) -> float:
    """Of protobuf's JSON, 1.5s; or a number of milliseconds."""
    for name in ("execution_duration_ms", "execution_time_ms"):
        if name in info:
            return float(info[name])
    return float(info["execution_duration"].rstrip("s")) * 1000


def _error(trace: dict[str, Any]) -> str | None:
    for span in (trace.get("data") or {}).get("spans") or ():
        status = span.get("status") or {}
        code = status.get("code") or span.get("status_code") or ""
        if "ERROR" in str(code):
            return status.get("message") or span.get("status_message") or None
    return None
