"""Headers of every answer for browsers: no sniffing, no copies, no frames."""

from __future__ import annotations

from flask import Flask, Response

# Answers are data: they load nothing, and no page may frame them. The pages of docs.py have a policy of their own.
POLICY = "default-src 'none'; frame-ancestors 'none'"


def register(app: Flask) -> None:
    """Add the headers to every answer; a route's own go before them."""
    app.after_request(_add)


def _add(response: Response) -> Response:
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers.setdefault("Cache-Control", "no-store")
    response.headers.setdefault("Content-Security-Policy", POLICY)
    return response
