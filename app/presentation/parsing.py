"""Reading requests: strict JSON, strict content types, and no parameter that is silently ignored."""

from __future__ import annotations

import json
from typing import Any

import marshmallow as ma
from flask import Request
from webargs.flaskparser import FlaskParser, is_json_request
from webargs.multidictproxy import MultiDictProxy

from app.presentation.errors import problem


class StrictParser(FlaskParser):
    """What flask-smorest reads arguments with."""

    DEFAULT_UNKNOWN_BY_LOCATION = {**FlaskParser.DEFAULT_UNKNOWN_BY_LOCATION, "query": ma.RAISE}  # noqa: RUF012

    def _raw_load_json(self, req: Request) -> Any:
        if not is_json_request(req):
            problem(415, "Content-Type must be application/json.")
        return strict_json(req.get_data(cache=False))

    def load_querystring(self, req: Request, schema: ma.Schema) -> Any:
        for name, values in req.args.lists():
            field = schema.load_fields.get(name)
            if len(values) > 1 and field is not None and not isinstance(field, ma.fields.List):
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
