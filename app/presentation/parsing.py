"""Reading requests: strict JSON, strict content types, and no parameter that is silently ignored."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import unquote_to_bytes

import marshmallow as ma
from flask import Request, current_app
from webargs.fields import DelimitedList
from webargs.flaskparser import FlaskParser, is_json_request
from webargs.multidictproxy import MultiDictProxy

from app.presentation.errors import problem
from app.presentation.inflate import read_body

# More than a record can be, however it is escaped. What is decoded may take thirty times its length in memory.
RECORD_BYTES = 256 * 1024


class StrictParser(FlaskParser):
    """What flask-smorest reads arguments with."""

    # Declared as an instance attribute by webargs, which reads it from the class.
    DEFAULT_UNKNOWN_BY_LOCATION = {**FlaskParser.DEFAULT_UNKNOWN_BY_LOCATION, "query": ma.RAISE}  # noqa: RUF012

    def _raw_load_json(self, req: Request) -> Any:
        if not is_json_request(req):
            problem(415, "Content-Type must be application/json.")
        return strict_json(read_body(req, min(current_app.config["MAX_CONTENT_LENGTH"], RECORD_BYTES)))

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


def strict_json(body: bytes) -> Any:
    """Decode JSON as RFC 8259 has it: no NaN, no Infinity, UTF-8 only. Answers 400 otherwise."""
    try:
        return loads(body.decode())
    except (ValueError, RecursionError) as error:
        where = f" at line {error.lineno} column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        problem(400, f"The body is not valid JSON{where}.", errors={"json": ["Invalid JSON body."]})


def loads(text: str) -> Any:
    """Decode JSON. Raises ValueError, also for NaN and Infinity, and RecursionError."""
    return DECODER.decode(text)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


DECODER = json.JSONDecoder(parse_constant=_refuse)
