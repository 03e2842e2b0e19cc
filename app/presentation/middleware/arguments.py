"""Reading requests: strict JSON, strict content types, and no parameter that is silently ignored."""

from __future__ import annotations

import json
from typing import Any, NoReturn
from urllib.parse import unquote_to_bytes

import marshmallow as ma
from flask import Request, current_app
from webargs.fields import DelimitedList
from webargs.flaskparser import FlaskParser, is_json_request
from webargs.multidictproxy import MultiDictProxy

from app.presentation.errors import problem
from app.presentation.middleware.request_body import read_body

# More than a record can have, however it is escaped. Decoded JSON may take thirty times its length in memory.
MAX_RECORD_BYTES = 256 * 1024


class StrictParser(FlaskParser):
    """The parser of arguments for flask-smorest."""

    # Declared as an instance attribute by webargs, which reads it from the class.
    DEFAULT_UNKNOWN_BY_LOCATION = {**FlaskParser.DEFAULT_UNKNOWN_BY_LOCATION, "query": ma.RAISE}  # noqa: RUF012

    def _raw_load_json(self, req: Request) -> Any:
        if not is_json_request(req):
            unsupported_type("application/json", req)
        return strict_json(read_body(req, min(current_app.config["MAX_CONTENT_LENGTH"], MAX_RECORD_BYTES)).content)

    def load_querystring(self, req: Request, schema: ma.Schema) -> Any:
        for part in req.query_string.split(b"&"):
            try:
                unquote_to_bytes(part.replace(b"+", b" ")).decode()
            except UnicodeDecodeError:
                name = part.partition(b"=")[0].decode(errors="replace")
                problem(422, errors={"query": {name: ["Must be UTF-8, percent-encoded."]}})
        fields = {field.data_key or name: field for name, field in schema.load_fields.items()}
        for name, values in req.args.lists():
            field = fields.get(name)
            repeatable = isinstance(field, ma.fields.List) and not isinstance(field, DelimitedList)
            if len(values) > 1 and field is not None and not repeatable:
                problem(422, errors={"query": {name: ["Given more than once."]}})
        return MultiDictProxy(req.args, schema)


def unsupported_type(expected: str, req: Request) -> NoReturn:
    """Answer 415 and name the `expected` content type."""
    advice = ""
    if req.mimetype == "application/x-www-form-urlencoded":
        header = f"Content-Type: {expected.partition(' ')[0]}"
        advice = f" curl sends application/x-www-form-urlencoded unless it is told otherwise: -H '{header}'."
    problem(415, f"Content-Type must be {expected}.{advice}")


def strict_json(body: bytes) -> Any:
    """Decode JSON as RFC 8259 has it: no NaN, no Infinity, UTF-8 only. Answers 400 otherwise."""
    try:
        return loads(body.decode())
    except (ValueError, RecursionError) as error:
        no_json(error)


def no_json(error: Exception) -> NoReturn:
    """Answer 400 for a body that `loads` could not read, and say what to do about it."""
    where = f" at line {error.lineno} column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
    message = " ".join([f"The body is not valid JSON{where}.", *json_advice(error)])
    problem(400, message, errors={"json": ["Invalid JSON body."]})


def json_advice(error: Exception) -> list[str]:
    """Return advice for the usual errors of `loads`: a sentence, or nothing."""
    reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
    return [sentence for beginning, sentence in _ADVICE.items() if reason.startswith(beginning)]


def loads(text: str) -> Any:
    """Decode JSON. Raises ValueError, also for NaN and Infinity, and RecursionError."""
    return DECODER.decode(text)


def _refuse(constant: str) -> None:
    raise ValueError(constant)


DECODER = json.JSONDecoder(parse_constant=_refuse)
# By how the messages of Python's decoder begin, and the name of the constant.
_NUMBER = "JSON has no {}: send null for an unknown number, or leave the field out."
_ADVICE = {
    "NaN": _NUMBER.format("NaN"),
    "Infinity": _NUMBER.format("Infinity"),
    "-Infinity": _NUMBER.format("-Infinity"),
    "Extra data": "There is more after the first value. Several records are a JSON array, or NDJSON: Content-Type "
    "application/x-ndjson and a line for each record. `curl -d @file` removes line ends, `--data-binary` keeps them.",
    "Invalid control character": "Inside a string, a line end or another control character is escaped (\\n).",
    "Expecting property name": "Names are in double quotes, and no comma follows the last value.",
    "Unexpected UTF-8 BOM": "Only the beginning of a body may have a byte order mark.",
}
