"""BentoML: `track(Price, log)` below a service logs each call of its APIs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from predlog.integrations.asgi import Middleware

if TYPE_CHECKING:
    from predlog.client import Client


def track(service: Any, log: Client, routes: dict[str, str] | None = None, **options: Any) -> None:
    """Log the calls of a class that `bentoml.service` has decorated, and send what waits when its worker ends.

    routes, options: see `predlog.integrations.http.Requests`; without routes each API is a model, `Price.predict`.
    """
    if routes is None:
        routes = {api.route: f"{service.name}.{name}" for name, api in service.apis.items()}
    service.add_asgi_middleware(Middleware, log=log, routes=routes, **options)
