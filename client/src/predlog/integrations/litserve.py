"""LitServe: `LitServer(api, middlewares=[middleware(log, "apartment_price")])` logs each request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from predlog.integrations.asgi import Middleware

if TYPE_CHECKING:
    from predlog.client import Client


def middleware(
    log: Client, model_name: str, path: str = "/predict", **options: Any
) -> tuple[type[Middleware], dict[str, Any]]:
    """What `LitServer` takes as a middleware; what waits is sent when an API server ends.

    path: the API's `api_path`. options: see `predlog.integrations.http.Requests`.
    """
    return Middleware, {"log": log, "routes": {path: model_name}, **options}
