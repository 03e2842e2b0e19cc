"""Name and version of the service, its liveness, and its readiness."""

from __future__ import annotations

import marshmallow as ma
from flask import Response, request

from app.presentation.api import Blueprint
from app.presentation.services import services
from app.presentation.version import __version__

blp = Blueprint("service", __name__, description="The service itself")

DESCRIPTION = (
    "A prediction log for machine-learning services: every prediction kept, and counted exactly, over any range."
    "\n\n"
    "Errors have one shape, except those of the HTTP server itself: it answers 400 to invalid HTTP, an "
    "address that is too long 414, headers that are too many or too long 431, each without a body."
)
# Relative to the address of this page, so that they are right behind a proxy that takes a prefix off.
DASHBOARD = "dashboard"
LINKS = {
    "dashboard": DASHBOARD,
    "docs": "docs",
    "redoc": "redoc",
    "openapi": "openapi.json",
    "health": "health",
    "ready": "ready",
    "predictions": "api/v1/predictions",
    "stats": "api/v1/stats",
    "compare": "api/v1/stats/compare",
    "models": "api/v1/models",
}


class InfoSchema(ma.Schema):
    """Name, version, and links to the pages."""

    name = ma.fields.String(required=True)
    version = ma.fields.String(required=True)
    links = ma.fields.Dict(
        keys=ma.fields.String(),
        values=ma.fields.String(metadata={"format": "uri-reference"}),
        required=True,
        metadata={"description": "Addresses relative to this page."},
    )


class HealthSchema(ma.Schema):
    """Alive."""

    status = ma.fields.String(required=True)


class ReadySchema(HealthSchema):
    """Ready, and on what."""

    engine = ma.fields.String(required=True, metadata={"description": "The storage engine: timescale, plain or citus."})
    nodes_away = ma.fields.List(
        ma.fields.String(),
        metadata={
            "description": "On Citus, nodes that do not answer: requests about models on them get 503, and so do "
            "questions about all models."
        },
    )


@blp.route("/")
@blp.response(200, InfoSchema, example={"name": "Predlog", "version": __version__, "links": LINKS})
@blp.alt_response(302, description="A browser is led to the dashboard: it asks for HTML rather than for JSON.")
def info() -> dict[str, object] | Response:
    """Name the service, its version and its pages."""
    if request.accept_mimetypes.best_match(["application/json", "text/html"]) == "text/html":
        return Response(status=302, headers={"Location": DASHBOARD, "Vary": "Accept"})
    return {"name": "Predlog", "version": __version__, "links": LINKS}


@blp.route("/health")
@blp.response(200, HealthSchema, example={"status": "healthy"})
def health() -> dict[str, str]:
    """Say that the process lives, without touching the database."""
    return {"status": "healthy"}


@blp.route("/ready")
@blp.response(200, ReadySchema, example={"status": "ready", "engine": "timescale"})
@blp.errors(503)
def ready() -> dict[str, object]:
    """Say whether the service should get traffic: database migrated and taking writes, and not about to stop."""
    state = services().readiness.check()
    return {"status": "ready", "engine": state.engine} | ({"nodes_away": state.nodes_away} if state.nodes_away else {})
