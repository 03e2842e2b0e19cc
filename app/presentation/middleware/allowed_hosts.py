"""No call by a name that is not the service's: a web page could have had its own name made to lead here."""

from __future__ import annotations

from flask import Flask, request

from app.domain.errors import NotAllowed
from app.domain.hosts import AllowedHosts

# A load balancer asks for them by an address that nobody has listed; their answers tell no secret, and do nothing.
PROBES = ("service.health", "service.ready")
MESSAGE = "This service is not called by the name in the Host header; ALLOWED_HOSTS has the names that it is called by."


def register(app: Flask, hosts: AllowedHosts) -> None:
    """Check every call but probes, also those of routes that do not exist."""

    def check() -> None:
        """Raises NotAllowed."""
        if request.endpoint not in PROBES and not hosts.allow(request.environ.get("HTTP_HOST") or ""):
            raise NotAllowed(MESSAGE)

    app.before_request(check)
