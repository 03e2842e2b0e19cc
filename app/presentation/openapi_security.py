"""Keys in the OpenAPI document: how they are sent, and which scope each operation needs."""

from __future__ import annotations

from typing import Any

import marshmallow as ma
from apispec import APISpec, BasePlugin

from app.domain.keys import Scope
from app.presentation.middleware.allowed_hosts import PROBES
from app.presentation.middleware.authentication import ABOUT_ALL_MODELS, OPEN, needed_for

SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key, sent as `Authorization: Bearer …`."},
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same key, sent by itself."},
}
ANSWERS = {
    401: ("Unauthorized", "The request brings no key, or one that is unknown, revoked or expired."),
    403: (
        "Forbidden",
        "The key has not the scope that this request needs, or is bound to other models; or the Host header names a "
        "host that is not in ALLOWED_HOSTS.",
    ),
    429: (
        "Too Many Requests",
        "This key, or if none is needed this address, sends too many requests, or too many without a valid key came "
        "from this address; see Retry-After.",
    ),
}


class KeyPlugin(BasePlugin):
    """Adds to each operation the keys that it takes, and the errors of authentication and rate limits."""

    def __init__(self, error: type[ma.Schema]) -> None:
        self._error = error

    def init_spec(self, spec: APISpec) -> None:
        for name, scheme in SCHEMES.items():
            spec.components.security_scheme(name, scheme)
        for status, (phrase, description) in ANSWERS.items():
            example = {"code": status, "status": phrase, "message": description}
            content = {"application/json": {"schema": self._error, "example": example}}
            spec.components.response(phrase, {"description": description, "content": content})

    def operation_helper(self, path: str | None = None, operations: dict[Any, Any] | None = None, **route: Any) -> None:
        """Called by apispec for each route."""
        endpoint = route["rule"].endpoint
        needed = needed_for(endpoint)
        for operation in (operations or {}).values():
            operation["security"] = [] if needed is OPEN else [{name: []} for name in SCHEMES]
            if needed is not OPEN:
                text = f"{operation.get('description', '')}\n\nNeeds a key with scope `{needed.value}`"
                operation["description"] = text.strip() + ("." if needed is Scope.ADMIN else " or `admin`.")
                if needed is Scope.READ:
                    operation["description"] += f" {_of_models(endpoint)}"
                answers = {str(status): phrase for status, (phrase, _) in ANSWERS.items()}
                operation["responses"] = answers | operation["responses"]
            elif endpoint not in PROBES:
                operation["responses"]["403"] = ANSWERS[403][0]


def _of_models(endpoint: str) -> str:
    if endpoint in ABOUT_ALL_MODELS:
        return "A key that is bound to models is refused."
    return "With a key that is bound to models the answer is about these alone, and to name another one is a 403."
