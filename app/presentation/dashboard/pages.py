"""The pages and their files.

All addresses are relative to that of the page: they are right behind a proxy that takes a prefix off.
"""

from __future__ import annotations

from flask import Blueprint, Flask, Response, abort, render_template, request

from app.presentation.dashboard.files import CHARTS, digest, files

# No inline script or style, and nothing from another host. There is no policy for trusted types either, so that text
# cannot become HTML.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "require-trusted-types-for 'script'; trusted-types 'none'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
YEAR_S = 365 * 24 * 3600

blp = Blueprint("dashboard", __name__, template_folder="templates")


def register(app: Flask) -> None:
    """Serve /dashboard and the pages and files below it."""
    app.register_blueprint(blp)


@blp.after_request
def _keep_to_this_host(response: Response) -> Response:
    response.headers["Content-Security-Policy"] = POLICY
    response.headers["Referrer-Policy"] = "same-origin"
    return response


@blp.get("/dashboard")
def overview() -> str:
    return _page("overview")


@blp.get("/dashboard/")
def overview_with_slash() -> Response:
    query = request.query_string.decode("latin-1")
    return Response(status=302, headers={"Location": f"../dashboard?{query}" if query else "../dashboard"})


@blp.get("/dashboard/model")
def model() -> str:
    return _page("model")


@blp.get("/dashboard/explore")
def explore() -> str:
    return _page("explore")


@blp.get("/dashboard/alerts")
def alerts() -> str:
    return _page("alerts")


def _page(name: str) -> str:
    root = "" if name == "overview" else "../"
    static = f"{root}dashboard/static/{digest()}"
    return render_template(f"{name}.html", page=name, root=root, static=static, has_charts=CHARTS in files())


@blp.get("/dashboard/static/<version>/<name>")
def static_file(version: str, name: str) -> Response:
    """One file; of another version than ours, as while instances are replaced, it is not to be kept."""
    file = files().get(name) or abort(404)
    is_compressed = request.accept_encodings["gzip"] > 0
    response = Response(file.compressed if is_compressed else file.content, mimetype=file.mimetype)
    response.headers["Vary"] = "Accept-Encoding"
    if is_compressed:
        response.headers["Content-Encoding"] = "gzip"
    if version == digest():
        response.headers["Cache-Control"] = f"public, max-age={YEAR_S}, immutable"
    response.set_etag(f"{file.etag}-gzip" if is_compressed else file.etag)
    response.make_conditional(request)
    return response
