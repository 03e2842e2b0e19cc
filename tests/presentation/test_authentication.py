"""Authentication: every route, with every kind of key."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen
from uuid import uuid4

import pytest
import structlog
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine
from werkzeug.test import TestResponse

from app import logging
from app.application.keys import Keys
from app.domain.keys import Scope, full_key, new_secret
from app.presentation.middleware.authentication import SCOPES
from app.presentation.services import services
from conftest import Server, make_app
from support.scratch import url_where_nobody_listens
from support.service import Service, running

SECONDS = 60  # more than a revocation takes, by far

OPEN_TO_ALL = {"/", "/health", "/ready", "/docs", "/redoc", "/docs/assets/<name>", "/openapi.json"}
OPEN_TO_ALL |= {"/dashboard", "/dashboard/", "/dashboard/model", "/dashboard/explore", "/dashboard/alerts"}
OPEN_TO_ALL |= {"/dashboard/static/<version>/<name>"}
DOORS = {"/v1/traces", "/v1/cloudevents"}  # what a bound key may send there is for their own tests
WRITING = {"/api/v1/predict-log", "/api/v1/predict-logs", "/api/v1/dropped"} | DOORS
STATUS_OF_GRPC = {401: 16, 403: 7}  # OTLP's errors are google.rpc.Status
VALUES = {"<prediction_id>": str(2**63 - 1), "<name>": "swagger-ui.css", "<version>": "1"}
MINE, OTHER = f"model-{uuid4().hex}", f"model-{uuid4().hex}"

NOWHERE = make_app(url_where_nobody_listens(), auth="keys")  # for its routes alone
ROUTES = sorted(
    (method, rule.rule) for rule in NOWHERE.url_map.iter_rules() for method in (rule.methods or set()) - {"OPTIONS"}
)
CALLERS = ("nobody", "nonsense", "wrong secret", "unknown id", "revoked", "write", "bound", "read", "admin")


@dataclass(frozen=True)
class House:
    """A service that wants keys, and what its callers send."""

    client: FlaskClient
    sent: dict[str, str]
    keys: Keys

    def call(self, method: str, path: str, caller: str, header: str = "Authorization", **kwargs: Any) -> TestResponse:
        key = self.sent[caller]
        headers = {header: f"Bearer {key}" if header == "Authorization" else key} if key else {}
        # An export keeps its permit until its answer is read, or forgotten by Python.
        headers |= kwargs.pop("headers", {})
        return self.client.open(path, method=method, headers=headers, buffered=True, **kwargs)


@pytest.fixture(scope="module")
def guarded(server: Server, database: Engine) -> Iterator[Flask]:
    """An application that wants keys; those that a test makes are gone afterwards."""
    app = make_app(server.url, auth="keys", pool_size=8 if server.concurrent else 1)
    yield app
    with database.connect() as connection:
        connection.exec_driver_sql("DELETE FROM api_key")


@pytest.fixture(scope="module")
def house(guarded: Flask) -> House:
    with guarded.app_context():
        keys = services().keys
    made = {scope.value: keys.create(scope.value, scope) for scope in Scope}
    made["bound"] = keys.create("bound", Scope.WRITE, [MINE])
    made["revoked"] = keys.create("revoked", Scope.ADMIN)
    keys.revoke(made["revoked"][0].id)
    sent = {caller: key for caller, (_, key) in made.items()}
    sent |= {
        "nobody": "",
        "nonsense": "nonsense",
        "wrong secret": full_key(made["admin"][0].id, new_secret()),
        "unknown id": full_key(2**62, new_secret()),
    }
    return House(guarded.test_client(), sent, keys)


def record(model: str = MINE) -> dict[str, Any]:
    return {"model_name": model, "duration_ms": 10, "was_successful": True}


def report(model: str, **fields: Any) -> dict[str, Any]:
    timestamp = datetime.now(timezone.utc).isoformat()
    return {
        "id": str(uuid4()),
        "model_name": model,
        "timestamp": timestamp,
        "reason": "queue_full",
        "count": 3,
    } | fields


def body(rule: str) -> Any:
    bodies = {
        "/api/v1/predict-log": record(OTHER),
        "/api/v1/predict-logs": [record(OTHER)],
        "/api/v1/dropped": [report(OTHER)],
    }
    return bodies.get(rule)


def needed(method: str, rule: str) -> str | None:
    """The scope that a route should need: what a new one has to have, too."""
    if rule in OPEN_TO_ALL:
        return None
    if rule in WRITING and method == "POST":
        return "write"
    return "read" if method in ("GET", "HEAD") else "admin"


def expected(method: str, rule: str, caller: str) -> int | None:
    """The status of a call that is refused, None for one that is not."""
    scope = needed(method, rule)
    if scope is None or caller in ("admin", scope):
        return None
    if caller == "bound" and rule in DOORS:
        return None
    if caller == "bound" and scope == "write":  # the records are of another model
        return 422 if rule == "/api/v1/predict-logs" else 403
    return 403 if caller in ("write", "bound", "read") else 401


def assert_documented(response: TestResponse, status: int) -> None:
    assert response.status_code == status, response.text
    assert response.headers["X-Request-ID"]
    if response.request.method == "HEAD":
        return
    assert response.json is not None
    assert response.json["message"]
    if response.request.path == "/v1/traces":
        assert response.json["code"] == STATUS_OF_GRPC[status]
    else:
        assert response.json["code"] == status
        assert response.json["status"]


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize(("method", "rule"), ROUTES)
def test_each_route_takes_the_keys_that_it_should_and_no_other(
    house: House, method: str, rule: str, caller: str
) -> None:
    path = rule
    for variable, value in VALUES.items():
        path = path.replace(variable, value)
    assert "<" not in path, f"give {path} a value in VALUES"
    response = house.call(method, path, caller, json=body(rule))
    status = expected(method, rule, caller)
    if status is None:
        assert response.status_code not in (401, 403), response.text
        assert response.status_code < 500, response.text
    elif status == 422:
        assert response.status_code == 422
        assert response.json["rejected"][0]["errors"] == {"model_name": ["This key may not log this model."]}
    else:
        assert_documented(response, status)
        assert response.headers.get("WWW-Authenticate") == ("Bearer" if status == 401 else None)


def test_each_route_has_declared_its_scope() -> None:
    endpoints = {rule.endpoint for rule in NOWHERE.url_map.iter_rules()}
    assert endpoints == SCOPES.keys(), "say in app/presentation/middleware/authentication.py who may call it"


def test_the_openapi_document_says_which_keys_each_operation_takes(house: House) -> None:
    document = house.call("GET", "/openapi.json", "nobody").json
    assert document is not None
    schemes = document["components"]["securitySchemes"]
    assert (schemes["bearer"]["type"], schemes["bearer"]["scheme"]) == ("http", "bearer")
    assert (schemes["apiKey"]["in"], schemes["apiKey"]["name"]) == ("header", "X-API-Key")
    operations = [
        (method.upper(), path.replace("{", "<").replace("}", ">"), operation)
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if method != "parameters"
    ]
    assert operations
    for method, rule, operation in operations:
        scope = needed(method, rule)
        assert operation["security"] == ([{"bearer": []}, {"apiKey": []}] if scope else []), (method, rule)
        assert ({"401", "403"} <= operation["responses"].keys()) == bool(scope), (method, rule)
        assert (f"scope `{scope}`" in operation["description"]) if scope else True


@pytest.mark.parametrize("header", ["X-API-Key", "x-api-key"])
def test_a_key_may_be_sent_by_itself(house: House, header: str) -> None:
    assert house.call("GET", "/api/v1/predictions", "read", header).status_code == 200
    assert house.call("GET", "/api/v1/predictions", "wrong secret", header).status_code == 401


def test_the_word_bearer_may_be_written_in_any_case(house: House) -> None:
    headers = {"Authorization": f"bEARER  {house.sent['read']} "}
    assert house.client.get("/api/v1/predictions", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "authorization", ["Basic dXNlcjpwYXNz", "Bearer", "Bearer ", "Bearer{key}", "{key}", "Token {key}"]
)
def test_other_ways_of_authorization_are_no_key(house: House, authorization: str) -> None:
    headers = {"Authorization": authorization.format(key=house.sent["admin"])}
    assert_documented(house.client.get("/api/v1/predictions", headers=headers), 401)


def test_x_api_key_goes_before_what_a_proxy_has_put_into_authorization(house: House) -> None:
    headers = {"Authorization": "Basic dXNlcjpwYXNz"}
    assert house.call("GET", "/api/v1/predictions", "read", "X-API-Key", headers=headers).status_code == 200


@pytest.mark.parametrize("key", ["ключ", "predlog_1_ключ", "predlog_1_\xff", "predlog_1_" + "x" * 5000, "%00", "'--"])
def test_a_key_of_any_characters_is_refused_and_not_an_error(house: House, key: str) -> None:
    environ = {"HTTP_X_API_KEY": key.encode().decode("latin-1")}
    assert_documented(house.client.get("/api/v1/predictions", environ_overrides=environ), 401)


def test_a_key_in_the_address_is_no_key(house: House) -> None:
    response = house.call("GET", f"/api/v1/predictions?api_key={house.sent['admin']}", "nobody")
    assert_documented(response, 401)


def test_a_route_that_is_not_there_is_not_found_without_a_key(house: House) -> None:
    assert house.call("GET", "/api/v1/nothing", "nobody").status_code == 404
    assert house.call("DELETE", "/api/v1/predict-log", "nobody").status_code == 405


def test_a_browser_may_ask_without_a_key_whether_it_may_call(server: Server) -> None:
    app = make_app(server.url, auth="keys", cors_origins=("https://example.org",))
    headers = {
        "Origin": "https://example.org",
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "authorization",
    }
    response = app.test_client().options("/api/v1/stats", headers=headers)
    assert response.status_code == 200
    assert response.headers["Access-Control-Allow-Headers"] == "authorization"


def test_without_auth_nobody_needs_a_key(house: House, client: FlaskClient) -> None:
    response = client.get("/api/v1/predictions", environ_overrides={"REMOTE_ADDR": "192.0.2.7"})
    assert response.status_code == 200


def test_a_bound_key_logs_its_model_and_no_other(house: House) -> None:
    assert house.call("POST", "/api/v1/predict-log", "bound", json=record(MINE)).status_code == 200
    assert_documented(house.call("POST", "/api/v1/predict-log", "bound", json=record(OTHER)), 403)


@pytest.mark.parametrize("content_type", ["application/json", "application/x-ndjson"])
def test_records_of_other_models_are_rejected_one_by_one(house: House, content_type: str) -> None:
    records = [record(MINE), record(OTHER), {"model_name": MINE}, record(MINE)]
    lines = [NOWHERE.json.dumps(each) for each in records]
    data = "\n".join(lines) if "ndjson" in content_type else f"[{','.join(lines)}]"
    response = house.call("POST", "/api/v1/predict-logs", "bound", data=data, content_type=content_type)
    assert response.status_code == 207
    assert response.json is not None
    assert response.json["stored"] == 2
    rejected = {each["index"]: each["errors"] for each in response.json["rejected"]}
    assert rejected.keys() == {1, 2}
    assert rejected[1] == {"model_name": ["This key may not log this model."]}


def test_a_batch_of_its_own_model_is_stored_with_a_bound_key(house: House) -> None:
    response = house.call("POST", "/api/v1/predict-logs", "bound", json=[record(MINE)] * 100)
    assert response.json == {"stored": 100, "duplicates": 0, "rejected": []}


def test_a_bound_key_reports_dropped_predictions_of_its_model_only(house: House, database: Engine) -> None:
    ids = {MINE: str(uuid4()), OTHER: str(uuid4())}
    reports = [report(model, id=id) for model, id in ids.items()]
    headers = {"Predlog-Dropped": NOWHERE.json.dumps(reports)}
    response = house.call("POST", "/api/v1/predict-logs", "bound", json=[record(MINE)], headers=headers)
    assert response.status_code == 200
    assert response.headers["Predlog-Dropped-Left-Out"] == "1"
    with database.connect() as connection:
        kept = connection.exec_driver_sql(
            "SELECT id::text FROM prediction_dropped WHERE id = ANY (%s::uuid[])", (list(ids.values()),)
        )
        assert [row[0] for row in kept] == [ids[MINE]]


def test_a_new_key_is_taken_and_a_revoked_one_refused_within_seconds(house: House) -> None:
    key, sent = house.keys.create("new", Scope.READ)
    house.sent["new"] = sent
    wait_for_status(house, 200)
    house.keys.revoke(key.id)
    wait_for_status(house, 401)


def wait_for_status(house: House, status: int) -> None:
    until = time.monotonic() + SECONDS
    while (answer := house.call("GET", "/api/v1/predictions?limit=1", "new").status_code) != status:
        assert time.monotonic() < until, answer
        time.sleep(0.1)


def test_a_revocation_reaches_every_worker(house: House, server: Server, tmp_path: Path) -> None:
    if not server.concurrent:
        pytest.skip("one session is too few for two workers")
    key, sent = house.keys.create("worker", Scope.READ)
    settings = {"DATABASE_URL": server.url, "WORKERS": "2", "POOL_SIZE": "2", "AUTH_FAILURES_PER_MINUTE": "0"}
    with running(tmp_path, "--no-migrate", **settings) as service:
        assert ask_often(service, sent) == {200}
        house.keys.revoke(key.id)
        until = time.monotonic() + SECONDS
        while ask_often(service, sent) != {401}:
            assert time.monotonic() < until


def ask_often(service: Service, key: str) -> set[int]:
    """The answers of enough calls, each on a connection of its own, for both workers to have been asked."""
    return {ask(service, key) for _ in range(40)}


def ask(service: Service, key: str) -> int:
    url = f"http://127.0.0.1:{service.port}/api/v1/predictions?limit=1"
    try:
        with urlopen(Request(url, headers={"X-API-Key": key}), timeout=30) as response:
            return int(response.status)
    except HTTPError as error:
        error.close()
        return error.code


def test_secrets_are_in_no_log_and_not_in_the_database(
    server: Server, database: Engine, house: House, capfd: pytest.CaptureFixture[str]
) -> None:
    app = make_app(server.url, auth="keys", debug=True, pool_size=2 if server.concurrent else 1)
    try:
        made = app.test_cli_runner().invoke(args=["keys", "create", "--scope", "read", "--name", "talkative"])
        key = made.stdout.strip()
        client = app.test_client()
        for headers in ({"Authorization": f"Bearer {key}"}, {"X-API-Key": key}, {"X-API-Key": key + "x"}):
            client.get("/api/v1/predictions", headers=headers)
        listed = app.test_cli_runner().invoke(args=["keys", "list"])
    finally:
        logging.configure(debug=False)
        structlog.contextvars.clear_contextvars()
    logged = "".join(capfd.readouterr())
    secret = key.split("_", 2)[2]
    assert len(secret) == 43
    assert "INSERT INTO api_key" in logged  # the log has the statements, so it would have the secret
    with database.connect() as connection:
        kept = "\n".join(connection.exec_driver_sql("SELECT api_key::text FROM api_key").scalars())
    assert "talkative" in kept
    for text in (secret, secret.encode().hex(), base64.urlsafe_b64decode(secret + "=").hex()):
        assert text not in logged
        assert text not in listed.output
        assert text not in kept
