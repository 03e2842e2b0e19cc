"""Authenticate and authorise every request by one table of endpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from flask import Flask, g, request
from structlog.contextvars import bind_contextvars

from app.domain.errors import NotAllowed, NotAuthenticated
from app.domain.keys import ApiKey, Scope
from app.domain.loopback import is_loopback, is_loopback_header
from app.presentation.services import services

OPEN = None

# All other endpoints need an admin's key.
SCOPES: dict[str, Scope | None] = {
    "service.info": OPEN,
    "service.health": OPEN,
    "service.ready": OPEN,
    "metrics.metrics": Scope.READ,
    "docs.swagger_ui": OPEN,
    "docs.redoc": OPEN,
    "docs.asset": OPEN,
    "dashboard.overview": OPEN,
    "dashboard.overview_with_slash": OPEN,
    "dashboard.model": OPEN,
    "dashboard.explore": OPEN,
    "dashboard.alerts": OPEN,
    "dashboard.static_file": OPEN,
    "api-docs.openapi_json": OPEN,
    "predictions.log_prediction": Scope.WRITE,
    "batches.log_batch": Scope.WRITE,
    "traces.export_traces": Scope.WRITE,
    "cloudevents.log_events": Scope.WRITE,
    "dropped.report_dropped": Scope.WRITE,
    "dropped.remove_dropped": Scope.ADMIN,
    "predictions.list_predictions": Scope.READ,
    "export.export_predictions": Scope.READ,
    "predictions.get_prediction": Scope.READ,
    "predictions.delete_prediction": Scope.ADMIN,
    "purge.purge_predictions": Scope.ADMIN,
    "statistics.stats": Scope.READ,
    "statistics.timeseries": Scope.READ,
    "histogram.histogram": Scope.READ,
    "comparison.compare": Scope.READ,
    "catalogue.list_models": Scope.READ,
    "error_groups.list_error_groups": Scope.READ,
    "model_statistics.list_model_statistics": Scope.READ,
    "alerts.list_alerts": Scope.READ,
    "alerts.history": Scope.READ,
}

# These are needed most while the database is away, so keys that were read before then stay valid for them.
WITHOUT_THE_DATABASE = ("metrics.metrics",)

# Their answers are about all models.
ABOUT_ALL_MODELS = ("metrics.metrics",)

MODEL_NOT_ALLOWED = "This key may not log this model."
MODEL_NOT_READABLE = "This key may not read this model."
_BEARER = "bearer "
_SIGNS_OF_A_PROXY = ("HTTP_FORWARDED", "HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_HOST", "HTTP_X_REAL_IP", "HTTP_VIA")


def register(app: Flask, count_failure: Callable[[], None] = lambda: None) -> None:
    """Check every request; `g.key` is then the caller's key, None if no key was ever made.

    `count_failure` is called for each request without a valid key, and may raise an error that answers it.
    """

    def check_call() -> None:
        try:
            check()
        except NotAuthenticated:
            count_failure()
            raise

    app.before_request(check_call)


def check() -> None:
    """Check the request. Raises NotAuthenticated, NotAllowed, and StorageUnavailable if the keys are not known."""
    endpoint = request.endpoint
    # An unknown route, or a browser's CORS preflight without a key: neither answer tells a secret.
    if endpoint is None or request.method == "OPTIONS":
        return
    needed = needed_for(endpoint)
    if needed is OPEN:
        return
    g.key = key = services().keys.identify(_sent(), however_old=endpoint in WITHOUT_THE_DATABASE)
    if key is None:
        _refuse_strangers()
        return
    bind_contextvars(key=key.id)
    if not key.scope.allows(needed):
        raise NotAllowed(f"This call needs a key with scope {needed.value}, this key has scope {key.scope.value}.")
    if key.models is not None and endpoint in ABOUT_ALL_MODELS:
        raise NotAllowed("This call needs a key that is bound to no model.")


def needed_for(endpoint: str) -> Scope | None:
    """Return the scope that a key needs for the endpoint; None if the endpoint needs no key."""
    return SCOPES.get(endpoint, Scope.ADMIN)


def models() -> frozenset[str] | None:
    """Return the models that this request may log, or read; None stands for any."""
    key: ApiKey | None = g.get("key")
    return key.models if key else None


def check_model(model_name: str) -> None:
    """Raise NotAllowed if this request may not log the model."""
    allowed = models()
    if allowed is not None and model_name not in allowed:
        raise NotAllowed(MODEL_NOT_ALLOWED)


def readable(model_names: Iterable[str]) -> tuple[str, ...]:
    """Return the models of a question: those that it names, or all (an empty tuple) if it names none.

    If the key is bound to models, a question that names none is about these models. Raises NotAllowed if it names
    another one.
    """
    asked, allowed = set(model_names), models()
    if allowed is not None and not asked <= allowed:
        raise NotAllowed(MODEL_NOT_READABLE)
    return tuple(sorted(asked or allowed or ()))


def _sent() -> str | None:
    """Return the key of the request. X-API-Key goes first, because a proxy may use Authorization for itself."""
    environ = request.environ
    key: str | None = environ.get("HTTP_X_API_KEY")
    if key:
        return key.strip()
    authorization: str = environ.get("HTTP_AUTHORIZATION", "")
    return authorization[len(_BEARER) :].strip() if authorization[: len(_BEARER)].lower() == _BEARER else None


def _refuse_strangers() -> None:
    """Refuse requests from other machines as long as no key was ever made.

    A request that came through a proxy is from another machine. A request that names another host may be: a web page
    whose own name resolves to this machine (DNS rebinding) sends that name.
    """
    environ = request.environ
    if not is_loopback(environ.get("REMOTE_ADDR") or ""):
        reason = "came from elsewhere"
    elif any(name in environ for name in _SIGNS_OF_A_PROXY):
        reason = "came through a proxy"
    elif not is_loopback_header(environ.get("HTTP_HOST") or ""):
        reason = "has a Host header that is neither localhost nor a loopback address"
    else:
        return
    raise NotAllowed(
        f"No API key exists yet, so only this machine may call, and this call {reason}. "
        "Make a key with `flask --app wsgi keys create`."
    )
