"""OTLP/HTTP for the OpenAPI document; fields that are not described here are ignored, as OTLP demands."""

from __future__ import annotations

from typing import Any

from app.presentation.api import ERRORS
from app.presentation.openapi_security import ANSWERS
from app.presentation.otlp.answers import CODES, JSON, PROTOBUF

SPAN = {
    "traceId": "5b8efff798038103d269b633813fc60c",
    "spanId": "eee19b7ec3c1b174",
    "name": "chat gpt-4o",
    "startTimeUnixNano": "1749470400000000000",
    "endTimeUnixNano": "1749470400124000000",
    "attributes": [{"key": "gen_ai.request.model", "value": {"stringValue": "gpt-4o"}}],
}
EXAMPLE = {"resourceSpans": [{"scopeSpans": [{"spans": [SPAN]}]}]}
NANOSECONDS = {"type": "string", "pattern": "^[0-9]{1,19}$", "description": "Since 1970; 0: not given."}
ATTRIBUTES = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {
            "key": {"type": "string"},
            "value": {"type": "object", "properties": {"stringValue": {"type": "string"}}},
        },
    },
}
SPAN_SCHEMA = {
    "type": "object",
    "properties": {
        "traceId": {"type": "string", "description": "32 hexadecimal digits."},
        "spanId": {"type": "string", "description": "16 hexadecimal digits."},
        "startTimeUnixNano": NANOSECONDS,
        "endTimeUnixNano": NANOSECONDS,
        "attributes": ATTRIBUTES,
        "status": {
            "type": "object",
            "properties": {"code": {"type": "integer", "enum": [0, 1, 2]}, "message": {"type": "string"}},
        },
    },
}


def _within(name: str, below: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": {name: {"type": "array", "items": below}}}


REQUEST = _within("resourceSpans", _within("scopeSpans", _within("spans", SPAN_SCHEMA)))
BINARY = {"type": "string", "format": "binary"}
ANSWER = {
    "type": "object",
    "properties": {
        "partialSuccess": {
            "type": "object",
            "properties": {
                "rejectedSpans": {"type": "string", "description": "How many predictions could not be logged."},
                "errorMessage": {"type": "string", "description": "The errors of the first three of them."},
            },
        }
    },
}
STATUS = {
    "type": "object",
    "properties": {
        "code": {"type": "integer", "description": "As gRPC numbers its statuses."},
        "message": {"type": "string", "description": "The error in a sentence."},
    },
}
ERRORS_HERE = {
    **{str(status): ERRORS[status][0] for status in (400, 413, 415, 422, 503)},
    **{str(status): description for status, (_, description) in ANSWERS.items()},
    "400": "The body is no ExportTraceServiceRequest, or none of its predictions can be logged.",
}


def _error(status: str, description: str) -> dict[str, Any]:
    example = {"code": CODES[int(status)], "message": description}
    content = {JSON: {"schema": STATUS, "example": example}, PROTOBUF: {"schema": BINARY, "example": ""}}
    return {"description": description, "content": content}


DOCUMENTATION = {
    "requestBody": {
        "required": True,
        "content": {
            JSON: {"schema": REQUEST, "example": EXAMPLE},
            PROTOBUF: {"schema": BINARY, "example": ""},
        },
    },
    "responses": {
        "200": {
            "description": "All predictions are stored, or all but those that `partialSuccess` tells of",
            "content": {
                JSON: {"schema": ANSWER, "example": {"partialSuccess": {}}},
                PROTOBUF: {"schema": BINARY, "example": ""},
            },
        },
        **{status: _error(status, description) for status, description in ERRORS_HERE.items()},
    },
}
