"""The pattern of the route that answered a request, from what Starlette and FastAPI leave in the scope."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any


def pattern_of(scope: dict[str, Any]) -> str:
    """The patterns of the route and of the mounts around it, `/models/{name}/predict`; "" if no route answered."""
    route = _route(scope)
    if route is None and "endpoint" not in scope:
        return ""
    mounts, routes = _mounts(scope)
    if route is None or hasattr(route, "routes"):  # none was told, or only the mount of an application that told none
        found = next((inner for inner in _inside(routes) if inner.endpoint is scope["endpoint"]), None)
        if found is None:
            return "" if route is None else mounts
        route = found
    return mounts + getattr(route, "path", "")


def _route(scope: dict[str, Any]) -> Any:
    """The route that was told. FastAPI's include_router() no longer copies it: one with all prefixes stands beside."""
    route = scope.get("route")
    told = scope.get("fastapi")
    included = told.get("effective_route_context") if isinstance(told, dict) else None
    return included if route is not None and getattr(included, "original_route", None) is route else route


def _mounts(scope: dict[str, Any]) -> tuple[str, Iterable[Any]]:
    """The patterns of the mounts that the request went through, and the routes inside them."""
    routes = getattr(scope.get("router"), "routes", ())
    root = scope.get("root_path", "")
    rest = root[len(scope.get("app_root_path", root)) :]  # the server's own root_path is before it
    patterns = ""
    while rest:
        for mount in routes:
            is_mount = hasattr(mount, "routes") and hasattr(mount, "path_regex")
            if is_mount and (match := mount.path_regex.match(f"{rest}/")):
                break
        else:  # it is in a router that hides its mounts
            return patterns + rest, routes
        patterns += mount.path
        rest = f"/{match['path']}".rstrip("/")
        routes = mount.routes
    return patterns, routes


def _inside(routes: Iterable[Any]) -> Iterator[Any]:
    """The routes that have an endpoint, also those in mounts and hosts."""
    for route in routes:
        if hasattr(route, "endpoint"):
            yield route
        yield from _inside(getattr(route, "routes", ()))
