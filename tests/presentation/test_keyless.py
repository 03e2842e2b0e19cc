"""Before the first key is made, only this machine may call."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine

from app.domain.keys import Scope
from app.presentation.services import services
from conftest import Server, make_app
from support.scratch import url_where_nobody_listens

SECONDS = 60


@pytest.fixture
def keyless(server: Server, database: Engine) -> Iterator[Flask]:
    """An application that knows of no key."""

    def forget() -> None:
        with database.connect() as connection:
            connection.exec_driver_sql("DELETE FROM api_key")

    forget()
    yield make_app(server.url, auth="keys", pool_size=2 if server.concurrent else 1)
    forget()


@pytest.fixture
def visitor(keyless: Flask) -> FlaskClient:
    return keyless.test_client()


def status(visitor: FlaskClient, address: str = "127.0.0.1", **headers: str) -> int:
    kwargs: dict[str, Any] = {"environ_overrides": {"REMOTE_ADDR": address}}
    return visitor.get("/api/v1/predictions?limit=1", headers=headers, **kwargs).status_code


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.2", "::1", "::ffff:127.0.0.1"])
@pytest.mark.parametrize("host", ["localhost", "localhost:8000", "127.0.0.1:8000", "[::1]:8000"])
def test_this_machine_may_call(visitor: FlaskClient, address: str, host: str) -> None:
    assert status(visitor, address, Host=host) == 200


@pytest.mark.parametrize("address", ["192.0.2.7", "10.0.0.1", "::ffff:192.0.2.7", "2001:db8::1", "", "unix"])
def test_others_may_not(visitor: FlaskClient, address: str) -> None:
    response = visitor.get("/api/v1/predictions", environ_overrides={"REMOTE_ADDR": address})
    assert response.status_code == 403
    assert response.json is not None
    assert "came from elsewhere" in response.json["message"]
    assert "keys create" in response.json["message"]


@pytest.mark.parametrize("header", ["Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP", "Via"])
def test_a_request_through_a_proxy_is_from_another_machine(visitor: FlaskClient, header: str) -> None:
    assert status(visitor, **{header: "127.0.0.1"}) == 403


@pytest.mark.parametrize("host", ["example.org", "predlog.internal:8000", "127.0.0.1.example.org", "192.0.2.7"])
def test_a_page_whose_name_was_made_to_mean_this_machine_may_not_call(visitor: FlaskClient, host: str) -> None:
    assert status(visitor, Host=host) == 403


def test_open_routes_are_open_to_all(visitor: FlaskClient) -> None:
    for path in ("/", "/health", "/ready", "/openapi.json"):
        assert visitor.get(path, environ_overrides={"REMOTE_ADDR": "192.0.2.7"}).status_code == 200


def test_a_key_is_not_looked_at_before_one_exists(visitor: FlaskClient) -> None:
    assert status(visitor, Authorization="Bearer anything") == 200
    assert status(visitor, "192.0.2.7", Authorization="Bearer anything") == 403


def test_the_first_key_is_needed_within_seconds_and_its_end_opens_nothing(keyless: Flask, visitor: FlaskClient) -> None:
    with keyless.app_context():
        keys = services().keys
    assert status(visitor) == 200
    key, sent = keys.create("first", Scope.READ)
    wait_for(visitor, 401)
    assert status(visitor, "192.0.2.7", Authorization=f"Bearer {sent}") == 200
    keys.revoke(key.id)
    wait_for(visitor, 401, Authorization=f"Bearer {sent}")
    assert status(visitor) == 401


def wait_for(visitor: FlaskClient, wanted: int, **headers: str) -> None:
    until = time.monotonic() + SECONDS
    while (answer := status(visitor, **headers)) != wanted:
        assert time.monotonic() < until, answer
        time.sleep(0.1)


def test_while_the_keys_are_not_known_no_call_is_taken() -> None:
    app = make_app(url_where_nobody_listens(), auth="keys")
    response = app.test_client().get("/api/v1/predictions")
    assert response.status_code == 503
    assert response.headers["Retry-After"]
    assert app.test_client().get("/health").status_code == 200
