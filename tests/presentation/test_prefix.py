"""Behind a proxy that serves the service below a prefix: every address that it gives is right as the caller sees it."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urljoin
from urllib.request import Request, urlopen

import pytest
from flask import Flask
from werkzeug.serving import WSGIRequestHandler, make_server

from conftest import Server, make_app

PREFIX = "/ml/predlog"
RECORDS = [{"model_name": "m", "duration_ms": n, "was_successful": True} for n in range(3)]


class QuietHandler(WSGIRequestHandler):
    """The server of these tests, which need no second log of requests."""

    def log(self, *_: Any) -> None:
        pass


class Proxy:
    """WSGI middleware that takes the prefix off, as a proxy does, or as a WSGI server that has mounted us there."""

    def __init__(self, app: Flask, headers: dict[str, str], mounted: bool) -> None:
        self._app, self._headers, self._mounted = app, headers, mounted

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        path = environ["PATH_INFO"]
        if not path.startswith(PREFIX + "/"):
            start_response("404 Not Found", [("Content-Type", "text/plain")])
            return [b"outside of the prefix"]
        environ["PATH_INFO"] = path[len(PREFIX) :]
        environ["SCRIPT_NAME"] = PREFIX if self._mounted else ""
        environ["HTTP_HOST"] = "127.0.0.1:1"  # as many proxies do
        return self._app(environ | self._headers, start_response)


WAYS = {
    "stripped": ({}, False),
    "X-Forwarded-Prefix": ({"HTTP_X_FORWARDED_PREFIX": PREFIX, "HTTP_X_FORWARDED_PROTO": "https"}, False),
    "SCRIPT_NAME": ({}, True),
}


@contextmanager
def proxied(app: Flask, way: str) -> Iterator[str]:
    headers, mounted = WAYS[way]
    server = make_server("127.0.0.1", 0, Proxy(app, headers, mounted), threaded=True, request_handler=QuietHandler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}{PREFIX}/"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(params=WAYS)
def root(request: pytest.FixtureRequest, servers: Callable[[str], Server]) -> Iterator[str]:
    """The address of the service, for each way to put it below a prefix."""
    with proxied(make_app(servers("plain").url), request.param) as root:
        yield root


def get(url: str) -> tuple[Any, Any]:
    """The body and the headers of an answer, which must be 200."""
    with urlopen(url) as response:
        text = response.read().decode()
        return json.loads(text) if "json" in response.headers["Content-Type"] else text, response.headers


def status(url: str) -> int:
    try:
        with urlopen(url) as response:
            return int(response.status)
    except HTTPError as error:
        return error.code


def post(url: str, body: Any) -> None:
    headers = {"Content-Type": "application/json"}
    with urlopen(Request(url, json.dumps(body).encode(), headers)) as response:
        assert response.status == 200


def test_the_links_of_the_root_lead_to_pages(root: str) -> None:
    info, _ = get(root)
    for name, link in info["links"].items():
        assert status(urljoin(root, link)) in (200, 422), name  # the latter if it wants parameters


@pytest.mark.parametrize("path", ["api/v1/predictions", "api/v1/models"])
def test_the_link_of_a_page_leads_to_the_next_one(root: str, model: str, path: str) -> None:
    records = [{**record, "model_name": model, "model_version": str(n)} for n, record in enumerate(RECORDS)]
    post(f"{root}api/v1/predict-logs", records)
    seen, url = [], f"{root}{path}?model_name={model}&limit=1"
    while url:
        page, headers = get(url)
        seen += [entry["model_version"] for entry in page]
        link = headers["Link"]
        url = urljoin(url, link[1 : link.index(">")]) if link else ""
    assert sorted(seen) == ["0", "1", "2"]


@pytest.mark.parametrize("page", ["docs", "redoc"])
def test_a_page_of_the_documentation_finds_its_files_and_the_document(root: str, page: str) -> None:
    text, _ = get(urljoin(root, page))
    addresses = re.findall(r'(?:src|href)="([^"]+)"', text) + re.findall(r'"([^"]*openapi\.json)"', text)
    addresses = [address for address in addresses if not address.startswith("data:")]
    assert len(addresses) >= 2
    for address in addresses:
        get(urljoin(urljoin(root, page), address))


def test_the_document_names_the_server_that_it_came_from(root: str) -> None:
    url = urljoin(root, "openapi.json")
    document, _ = get(url)
    (server,) = document["servers"]
    base = urljoin(url, server["url"]).rstrip("/")
    assert get(f"{base}/health")[0] == {"status": "healthy"}
    assert "/health" in document["paths"]


def test_a_header_of_a_proxy_changes_no_address(servers: Callable[[str], Server], model: str) -> None:
    """None is trusted, because any client can write it, and put another address into an answer."""
    client = make_app(servers("plain").url, allowed_hosts=("*",)).test_client()
    client.post("/api/v1/predict-logs", json=[{**record, "model_name": model} for record in RECORDS])
    headers = {
        "X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "gopher", "X-Forwarded-Prefix": "//evil.example",
        "Forwarded": "host=evil.example", "Host": "evil.example",
    }  # fmt: skip
    for path in ("/", "/docs", "/redoc", "/openapi.json", f"/api/v1/predictions?limit=1&model_name={model}"):
        response = client.get(path, headers=headers)
        assert response.status_code == 200
        assert "evil" not in response.text + str(response.headers)
