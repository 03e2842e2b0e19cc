"""Answers as OTLP/HTTP has them, in the encoding of the request."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from flask import Response
from google.rpc import code_pb2
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceResponse,
)

from app.presentation.errors import json_response

JSON, PROTOBUF = "application/json", "application/x-protobuf"
CODES = {
    400: code_pb2.INVALID_ARGUMENT,
    401: code_pb2.UNAUTHENTICATED,
    403: code_pb2.PERMISSION_DENIED,
    408: code_pb2.DEADLINE_EXCEEDED,
    413: code_pb2.OUT_OF_RANGE,
    415: code_pb2.INVALID_ARGUMENT,
    422: code_pb2.INVALID_ARGUMENT,
    429: code_pb2.RESOURCE_EXHAUSTED,
    503: code_pb2.UNAVAILABLE,
}


def success(mimetype: str, rejected: int = 0, message: str = "") -> Response:
    """Return the answer to a request of which all spans were accepted, or all but `rejected`."""
    if mimetype == JSON:
        partial = {"rejectedSpans": str(rejected), "errorMessage": message} if rejected else {}
        return json_response({"partialSuccess": partial}, 200)
    answer = ExportTraceServiceResponse()
    if rejected:
        answer.partial_success.CopyFrom(ExportTracePartialSuccess(rejected_spans=rejected, error_message=message))
    return Response(answer.SerializeToString(), mimetype=PROTOBUF)


def as_status(response: Response, mimetype: str) -> Response:
    """Return an error response as google.rpc.Status."""
    body = response.get_json()
    sentences = [*filter(None, [body.get("message")]), *_sentences(body.get("errors"))]
    message = " ".join(sentences) or body["status"]
    code = CODES.get(response.status_code, code_pb2.UNKNOWN)
    if mimetype == PROTOBUF:
        response.data = Status(code=code, message=message.encode(errors="replace").decode()).SerializeToString()
        response.mimetype = PROTOBUF
    else:
        response.data = json_response({"code": code, "message": message}, response.status_code).data
    return response


def _sentences(errors: Any, name: str = "") -> Iterator[str]:
    """Yield the errors as sentences, each after the name of its field."""
    if isinstance(errors, dict):
        for key, below in errors.items():
            yield from _sentences(below, str(key))
    elif isinstance(errors, list):
        for below in errors:
            yield from _sentences(below, name)
    elif errors:
        yield f"{name}: {errors}" if name else str(errors)
