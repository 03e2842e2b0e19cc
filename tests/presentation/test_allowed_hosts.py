"""ALLOWED_HOSTS: no call by a name that is not the service's."""

from __future__ import annotations

import pytest
from flask import Flask
from flask.testing import FlaskClient

from conftest import make_app
from support.scratch import url_where_nobody_listens

URL = url_where_nobody_listens()
APP = make_app(URL)
PROBES = {"/health", "/ready"}
ROUTES = sorted(
    (method, rule.rule.replace("<prediction_id>", "1").replace("<name>", "swagger-ui.css"))
    for rule in APP.url_map.iter_rules()
    for method in rule.methods or ()
)


def status(app: Flask | FlaskClient, host: str, method: str = "GET", path: str = "/") -> int:
    client = app.test_client() if isinstance(app, Flask) else app
    return client.open(path, method=method, headers={"Host": host}).status_code


@pytest.mark.parametrize(("method", "path"), [*ROUTES, ("GET", "/nothing"), ("BREW", "/")])
@pytest.mark.parametrize("auth", ["none", "keys"])
def test_a_page_whose_name_was_made_to_lead_here_gets_nothing_from_any_route(auth: str, method: str, path: str) -> None:
    app = APP if auth == "none" else make_app(URL, auth=auth)
    assert (status(app, "evil.example.com:8000", method, path) == 403) is (path not in PROBES)
    assert status(app, "localhost:8000", method, path) != 403


def test_the_answer_says_what_to_do_in_the_documented_shape() -> None:
    response = APP.test_client().get("/", headers={"Host": "evil.example.com"})
    assert response.json is not None
    assert (response.json["code"], response.json["status"]) == (403, "Forbidden")
    assert "ALLOWED_HOSTS" in response.json["message"]
    assert "evil" not in response.text


@pytest.mark.parametrize("path", sorted(PROBES))
def test_a_load_balancer_may_probe_by_any_address(path: str) -> None:
    assert status(APP, "10.1.2.3:8000", path=path) in (200, 503)


def test_a_service_that_listens_to_others_has_any_name_unless_names_are_given() -> None:
    assert status(make_app(URL, host="0.0.0.0"), "logs.example.org") == 200
    named = make_app(URL, host="0.0.0.0", allowed_hosts=("logs.example.org", "*.internal.example"))
    assert status(named, "logs.example.org:8000") == 200
    assert status(named, "a.internal.example") == 200
    assert status(named, "localhost") == 403


def test_a_call_without_a_host_is_by_none_that_is_allowed() -> None:
    response = APP.test_client().get("/", environ_overrides={"HTTP_HOST": ""})
    assert response.status_code == 403
