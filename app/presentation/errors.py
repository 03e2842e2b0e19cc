"""One table from domain errors to HTTP, and one shape for every error: code, status, message, errors."""

from __future__ import annotations

import json
import math
from http import HTTPStatus
from typing import Any, NoReturn

import flask_smorest
import structlog
from flask import Flask, Response, g
from werkzeug.exceptions import HTTPException

from app.domain.errors import (
    BehindRetention,
    DroppedBehindRetention,
    InvalidInput,
    LockTimeout,
    NotAllowed,
    NotAuthenticated,
    NotFound,
    NotReady,
    PredlogError,
    RateLimited,
    RequestIdConflict,
    StorageBusy,
    StorageUnavailable,
    TooManyFailures,
    TooManyNewModels,
)
from app.presentation.instruments import meters

log = structlog.get_logger(__name__)

STATUS: dict[type[PredlogError], HTTPStatus] = {
    InvalidInput: HTTPStatus.UNPROCESSABLE_ENTITY,
    NotAllowed: HTTPStatus.FORBIDDEN,
    NotAuthenticated: HTTPStatus.UNAUTHORIZED,
    NotFound: HTTPStatus.NOT_FOUND,
    NotReady: HTTPStatus.SERVICE_UNAVAILABLE,
    BehindRetention: HTTPStatus.UNPROCESSABLE_ENTITY,
    DroppedBehindRetention: HTTPStatus.UNPROCESSABLE_ENTITY,
    RequestIdConflict: HTTPStatus.CONFLICT,
    TooManyNewModels: HTTPStatus.UNPROCESSABLE_ENTITY,
    RateLimited: HTTPStatus.TOO_MANY_REQUESTS,
    StorageUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
}
# The reasons under which refused requests are counted.
REFUSALS: dict[type[PredlogError], str] = {
    TooManyFailures: "authentication",
    RateLimited: "rate_limit",
    StorageBusy: "database_busy",
    LockTimeout: "database_busy",
    StorageUnavailable: "database_away",
    NotReady: "not_ready",
}
RETRY_AFTER_S = 1


def problem(status: int, message: str | None = None, *, errors: dict[str, Any] | None = None) -> NoReturn:
    """End the request with an error in the documented shape."""
    flask_smorest.abort(status, message=message, errors=errors)
    raise AssertionError  # abort has raised


def overloaded(reason: str, message: str) -> NoReturn:
    """End the request with 503, counted under this reason; the client may send it again in a moment."""
    meters().refused(reason)
    problem(503, message)


def register(app: Flask) -> None:
    """Answer errors of the domain, and any other exception, in the documented shape."""
    app.register_error_handler(PredlogError, _domain_error)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _unforeseen)


def _domain_error(error: PredlogError) -> Response:
    status = next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)
    if refusal := next((REFUSALS[kind] for kind in type(error).__mro__ if kind in REFUSALS), None):
        meters().refused(refusal)
    if isinstance(error, StorageUnavailable):
        log.warning("storage unavailable", cause=_cause(error.__cause__))
    if isinstance(error, (BehindRetention, RequestIdConflict, TooManyNewModels)):
        return _response(status, None, {"json": {error.field: [error.message]}})
    if isinstance(error, InvalidInput):
        return _response(status, None, {"query": {error.field: [error.message]}})
    response = _response(status, str(error), None)
    if isinstance(error, RateLimited):
        response.headers["Retry-After"] = str(math.ceil(error.wait_s))
    return response


def _http_error(error: HTTPException) -> Response | HTTPException:
    if error.code is None or error.code < 400:
        return error  # a redirect
    data = getattr(error, "data", None) or {}
    errors = data.get("errors") or data.get("messages")
    message = data.get("message") or (None if errors else error.description)
    response = _response(HTTPStatus(error.code), message, errors)
    response.headers.extend(
        (k, v) for k, v in error.get_headers() if k.lower() not in ("content-type", "content-length")
    )
    response.headers.extend(data.get("headers") or {})
    return response


def _unforeseen(error: Exception) -> Response:
    # The message may quote the request, so only the type and the place are logged, which are enough to find the bug.
    log.error("unforeseen error", kind=type(error).__qualname__, place=_place(error))
    return _response(HTTPStatus.INTERNAL_SERVER_ERROR, "The service failed; its log has more by the request id.", None)


def _cause(error: BaseException | None) -> str:
    """Return the kind of the driver's error, as LockNotAvailable or DiskFull: its message may quote a request."""
    return type(getattr(error, "orig", None) or error).__name__


def _place(error: Exception) -> list[str]:
    trace, places = error.__traceback__, []
    while trace is not None:
        places.append(f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}")
        trace = trace.tb_next
    return places[-8:]


def json_response(body: dict[str, Any], status: int) -> Response:
    """Return a JSON answer that may quote the request: half a surrogate pair is escaped, as it was sent."""
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    return Response(text.encode(errors="backslashreplace"), status, mimetype="application/json")


def _response(status: HTTPStatus, message: str | None, errors: dict[str, Any] | None) -> Response:
    g.errors = errors or {}
    body: dict[str, Any] = {"code": int(status), "status": status.phrase}
    body |= {"message": message} if message else {}
    body |= {"errors": errors} if errors else {}
    response = json_response(body, status)
    if status is HTTPStatus.SERVICE_UNAVAILABLE:
        response.headers["Retry-After"] = str(RETRY_AFTER_S)
    if status is HTTPStatus.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response
