"""The common part of all resources: the API object, the blueprint with strict parsing, the documented errors."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Any, ClassVar

import marshmallow as ma
from flask import Flask
from flask_smorest import Api
from flask_smorest import Blueprint as SmorestBlueprint
from werkzeug.routing import BaseConverter

from app.domain.errors import RequestIdConflict
from app.presentation.middleware.arguments import StrictParser
from app.presentation.openapi_security import KeyPlugin
from app.presentation.schemas import fields

ERRORS: dict[int, tuple[str, Any]] = {
    400: ("The body is not valid JSON.", {"json": ["Invalid JSON body."]}),
    404: ("There is no such resource.", None),
    406: ("`Accept` has no format that the service can write.", None),
    408: ("The body has not arrived in REQUEST_TIMEOUT_S seconds, or not much more.", None),
    409: (
        "A prediction of another model has this `request_id` and `timestamp`; nothing was stored.",
        {"json": {"request_id": [RequestIdConflict.message]}},
    ),
    413: ("The body is larger than the service takes.", None),
    415: ("The body is not of the content type that is expected.", None),
    422: ("A value cannot be used; `errors` names it.", {"json": {"duration_ms": ["Not a number."]}}),
    503: ("The database is away, or the service is stopping; try again after the seconds in Retry-After.", None),
}


class ErrorSchema(ma.Schema):
    """The shape of every error."""

    code = ma.fields.Integer(required=True, metadata={"description": "The HTTP status.", "example": 422})
    status = ma.fields.String(required=True, metadata={"description": "Its name.", "example": "Unprocessable Entity"})
    message = ma.fields.String(metadata={"description": "The error in a sentence."})
    errors = ma.fields.Dict(metadata={"description": "The errors of each field, by the part of the request."})


class Blueprint(SmorestBlueprint):
    """A flask-smorest blueprint that reads strictly and documents its errors."""

    ARGUMENTS_PARSER: ClassVar = StrictParser()

    def errors(self, *statuses: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Document the errors that an operation may answer with."""

        def decorate(view: Callable[..., Any]) -> Callable[..., Any]:
            for status in statuses:
                description, errors = ERRORS[status]
                example = {"code": status, "status": HTTPStatus(status).phrase}
                example |= {"errors": errors} if errors else {"message": description}
                view = self.alt_response(status, schema=ErrorSchema, description=description, example=example)(view)
            return view

        return decorate


class Segment(BaseConverter):
    """A value for `<name>` in a path, which is never the name of another route."""

    regex = r"(?!export\Z)[^/]+"


class PredlogApi(Api):
    """flask-smorest with our own description of errors."""

    ERROR_SCHEMA: ClassVar = ErrorSchema


def create_api(app: Flask, version: str, description: str) -> Api:
    """Attach flask-smorest, whose own pages stay off: docs.py serves them without any other host."""
    app.config.update(
        API_TITLE="Predlog",
        API_VERSION=version,
        OPENAPI_VERSION="3.0.3",
        OPENAPI_URL_PREFIX="/",
        OPENAPI_JSON_PATH="openapi.json",
        API_SPEC_OPTIONS={
            "info": {"description": description},
            # Relative to the document itself, so that it is right behind a proxy with a prefix.
            "servers": [{"url": ".", "description": "This service"}],
        },
    )
    app.url_map.converters["default"] = Segment
    api = PredlogApi(app, spec_kwargs={"extra_plugins": [KeyPlugin(ErrorSchema)]})
    api.register_field(fields.Instant, "string", "date-time")
    api.register_field(fields.Milliseconds, "number", "double")
    return api
