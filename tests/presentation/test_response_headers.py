"""What every answer says to browsers."""

from __future__ import annotations

import pytest
from flask.testing import FlaskClient

from conftest import make_app
from support.scratch import url_where_nobody_listens

URL = url_where_nobody_listens()
CLIENTS = {
    auth: make_app(URL, auth=auth, cors_origins=("https://a.example.org",)).test_client() for auth in ("none", "keys")
}
ROUTES = sorted(
    (method, rule.rule.replace("<prediction_id>", "1").replace("<name>", "swagger-ui.css").replace("<version>", "1"))
    for rule in CLIENTS["none"].application.url_map.iter_rules()
    for method in rule.methods or ()
)


@pytest.mark.parametrize(("method", "path"), [*ROUTES, ("GET", "/nothing"), ("BREW", "/"), ("GET", "/docs/assets/no")])
@pytest.mark.parametrize("auth", CLIENTS)
def test_every_answer_is_taken_for_what_it_is_and_framed_by_nobody(auth: str, method: str, path: str) -> None:
    with CLIENTS[auth].open(path, method=method) as response:
        assert response.headers.getlist("X-Content-Type-Options") == ["nosniff"]
        [policy] = response.headers.getlist("Content-Security-Policy")
        assert "frame-ancestors 'none'" in policy
        [kept] = response.headers.getlist("Cache-Control")
        assert kept == "no-store" or (path.startswith("/docs/assets/") and "max-age" in kept), "only files may be kept"


def test_a_failure_nobody_has_foreseen_has_the_headers_too(monkeypatch: pytest.MonkeyPatch) -> None:
    client = CLIENTS["none"]
    monkeypatch.setitem(client.application.view_functions, "service.health", lambda: 1 // 0)
    response = client.get("/health")
    assert response.status_code == 500
    assert response.headers["Cache-Control"] == "no-store"
    assert "frame-ancestors 'none'" in response.headers["Content-Security-Policy"]


@pytest.mark.parametrize("page", ["/docs", "/redoc"])
def test_a_page_runs_its_own_scripts_alone(away: FlaskClient, page: str) -> None:
    first, second = away.get(page), away.get(page)
    policies = [dict(part.split(" ", 1) for part in answer.headers["Content-Security-Policy"].split("; "))
                for answer in (first, second)]  # fmt: skip
    scripts = policies[0]["script-src"].split()
    assert "'unsafe-inline'" not in scripts
    nonce = scripts[1].removeprefix("'nonce-").removesuffix("'")
    assert len(nonce) >= 16
    assert f'<script nonce="{nonce}">' in first.text
    assert nonce not in second.text + str(policies[1])
