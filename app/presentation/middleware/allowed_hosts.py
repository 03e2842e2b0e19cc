"""Refuse requests with an unknown Host, because a web page can make its own name lead here (DNS rebinding)."""

from __future__ import annotations

from flask import Flask, request

from app.domain.errors import NotAllowed
from app.domain.hosts import AllowedHosts

# A load balancer requests them by an address that the settings do not list; their answers tell no secret.
PROBES = ("service.health", "service.ready")
MESSAGE = "This service is not called by the name in the Host header; ALLOWED_HOSTS has the names that it is called by."


def register(app: Flask, hosts: AllowedHosts) -> None:
    """Check every request except probes, also for routes that do not exist."""

    def check() -> None:
        """Raises NotAllowed."""
        if request.endpoint not in PROBES and not hosts.allow(request.environ.get("HTTP_HOST") or ""):
            raise NotAllowed(MESSAGE)

    app.before_request(check)
