"""CORS_ORIGINS: which pages of other origins may read answers."""

from __future__ import annotations

import pytest

from conftest import make_app
from support.scratch import url_where_nobody_listens

URL = url_where_nobody_listens()
APP = make_app(URL, auth="keys", cors_origins=("https://*.example.org", "http://localhost:3000", "https://[::1]:3000"))


def allowed(origin: str, method: str = "GET") -> str | None:
    headers = {"Origin": origin, "Access-Control-Request-Method": "GET"}
    response = APP.test_client().open("/health", method=method, headers=headers)
    return response.headers.get("Access-Control-Allow-Origin")


@pytest.mark.parametrize("method", ["GET", "OPTIONS"])
@pytest.mark.parametrize(
    "origin", ["https://app.example.org", "https://a.b.example.org", "http://localhost:3000", "https://[::1]:3000"]
)
def test_the_origins_that_are_meant_may_read(origin: str, method: str) -> None:
    assert allowed(origin, method) == origin


@pytest.mark.parametrize("method", ["GET", "OPTIONS"])
@pytest.mark.parametrize(
    "origin",
    [
        "https://xexample.org.evil.com", "https://example.org", "https://app.example.org.evil.com", "http://localhost:30001",
        "http://app.example.org", "http://localhostx3000", "https://:3000", "null",
    ],
)  # fmt: skip
def test_no_other_origin_may(origin: str, method: str) -> None:
    assert allowed(origin, method) is None
