"""Swagger UI and ReDoc from files that an installed package ships: no request leaves the host.

All addresses are relative to that of the page: they are right behind a proxy that takes a prefix off.
"""

from __future__ import annotations

import secrets
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from flask import Blueprint, Flask, Response, abort, g, render_template_string, send_from_directory

# The package is made for Django, but its files are plain; it is found, never imported, and needs no Django.
PACKAGE = "drf_spectacular_sidecar"
ASSETS = {
    "swagger-ui.css": "swagger-ui-dist",
    "swagger-ui-bundle.js": "swagger-ui-dist",
    "redoc.standalone.js": "redoc/bundles",
}

PAGE = """<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <title>Predlog API</title>
  <link rel="icon" href="data:,">
  {{ style|safe }}
</head>
<body>
  <div id="ui"></div>
  <script src="docs/assets/{{ library }}"></script>
  <script nonce="{{ nonce() }}">{{ start|safe }}</script>
</body>
</html>
"""
SWAGGER_UI = {
    "style": '<link rel="stylesheet" href="docs/assets/swagger-ui.css">',
    "library": "swagger-ui-bundle.js",
    "start": """
    SwaggerUIBundle({url: "openapi.json", dom_id: "#ui", deepLinking: true, tryItOutEnabled: true,
                     persistAuthorization: true, validatorUrl: null});
  """,
}
REDOC = {
    "style": "<style>body { margin: 0 }</style>",
    "library": "redoc.standalone.js",
    "start": 'Redoc.init("openapi.json", {}, document.getElementById("ui"))',
}

MISSING = "The pages are not installed; the API's description is at /openapi.json. Install predlog-server[docs].\n"

blp = Blueprint("docs", __name__)


@blp.after_request
def _keep_to_this_host(response: Response) -> Response:
    # ReDoc would fetch a logo from its vendor's host.
    response.headers["Content-Security-Policy"] = (
        f"default-src 'self'; script-src 'self' 'nonce-{_nonce()}'; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data:; worker-src 'self' blob:; "
        "object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return response


@blp.app_context_processor
def _with_nonce() -> dict[str, Any]:
    return {"nonce": _nonce}


def _nonce() -> str:
    """Return the nonce of the inline scripts of a page, a new one for each answer."""
    if "nonce" not in g:
        g.nonce = secrets.token_urlsafe(16)
    return str(g.nonce)


def register(app: Flask) -> None:
    """Serve /docs, /redoc and their files."""
    app.register_blueprint(blp)


@blp.get("/docs")
def swagger_ui() -> str | Response:
    return _page(SWAGGER_UI)


@blp.get("/redoc")
def redoc() -> str | Response:
    return _page(REDOC)


@blp.get("/docs/assets/<name>")
def asset(name: str) -> Response:
    folder = _folder()
    if folder is None or name not in ASSETS:
        abort(404)
    return send_from_directory(folder / ASSETS[name], name, max_age=86_400)


def _page(parts: dict[str, str]) -> str | Response:
    return render_template_string(PAGE, **parts) if _folder() else Response(MISSING, 404, mimetype="text/plain")


def _folder() -> Path | None:
    found = find_spec(PACKAGE)
    return Path(found.origin).parent / "static" / PACKAGE if found and found.origin else None
