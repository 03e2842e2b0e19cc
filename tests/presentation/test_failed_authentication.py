"""AUTH_FAILURES_PER_MINUTE: calls without a good key are limited by address, those with one are not."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest
from flask.testing import FlaskClient

from app.domain.keys import Scope
from app.infrastructure.key_store import PostgresKeyStore
from app.presentation.middleware.rate_limit import RateLimit
from app.presentation.services import services
from conftest import Server, make_app
from support.figures import Figures
from support.service import running

MOST = 5
ASKED = "/api/v1/predictions/0"  # answered without the database
GOOD, BAD = 422, 401


@pytest.fixture(scope="module")
def plain(servers: Callable[[str], Server]) -> Server:
    return servers("plain")


@pytest.fixture
def key(plain: Server) -> Iterator[str]:
    """A key that reads; there is none afterwards."""
    app = make_app(plain.url, auth="keys")
    with app.app_context():
        keys = services().keys
    yield keys.create("reader", Scope.READ)[1]
    engine = cast(PostgresKeyStore, keys._store)._database.engine
    with engine.connect() as connection:
        connection.exec_driver_sql("DELETE FROM api_key")


@pytest.fixture
def client(plain: Server, key: str, monkeypatch: pytest.MonkeyPatch) -> FlaskClient:
    """Its limit's clock stands still, for else one more call may be let in every twelve seconds."""
    monkeypatch.setattr(RateLimit.__init__, "__defaults__", (lambda: 1000.0,))
    return make_app(plain.url, auth="keys", auth_failures_per_minute=MOST).test_client()


def call(client: FlaskClient, sent: str | None, address: str = "192.0.2.1") -> int:
    headers = {"X-API-Key": sent} if sent else {}
    return client.get(ASKED, headers=headers, environ_overrides={"REMOTE_ADDR": address}).status_code


@pytest.mark.parametrize("sent", [None, "nonsense", "predlog_1_wrong"])
def test_so_many_failures_a_minute_are_told_why_and_the_others_to_wait(client: FlaskClient, sent: str | None) -> None:
    assert [call(client, sent) for _ in range(MOST + 2)] == [BAD] * MOST + [429] * 2
    response = client.get(ASKED, environ_overrides={"REMOTE_ADDR": "192.0.2.1"})
    assert response.json is not None
    assert (response.json["code"], response.json["status"]) == (429, "Too Many Requests")
    assert "without a valid key" in response.json["message"]
    assert 1 <= int(response.headers["Retry-After"]) <= 60 / MOST


def test_a_right_key_passes_from_an_address_that_many_wrong_ones_came_from(client: FlaskClient, key: str) -> None:
    for _ in range(3 * MOST):
        call(client, "nonsense")
    assert [call(client, key) for _ in range(3 * MOST)] == [GOOD] * 3 * MOST
    assert call(client, "nonsense") == 429, "nor does it open the door for others"


def test_right_keys_are_not_counted(client: FlaskClient, key: str) -> None:
    for _ in range(3 * MOST):
        assert call(client, key) == GOOD
    assert call(client, "nonsense") == BAD


def test_each_address_is_counted_by_itself(client: FlaskClient) -> None:
    assert [call(client, None) for _ in range(MOST + 1)][-1] == 429
    assert call(client, None, "192.0.2.2") == BAD
    assert [call(client, None, f"2001:db8::{n}") for n in range(MOST + 1)][-1] == 429


def test_what_needs_no_key_is_never_refused(client: FlaskClient) -> None:
    for _ in range(2 * MOST):
        call(client, None)
    for path in ("/", "/health", "/openapi.json", "/nothing"):
        assert client.get(path, environ_overrides={"REMOTE_ADDR": "192.0.2.1"}).status_code in (200, 404)


def test_a_call_with_too_small_a_key_is_no_failure(client: FlaskClient, key: str) -> None:
    for _ in range(2 * MOST):
        response = client.delete(ASKED, headers={"X-API-Key": key}, environ_overrides={"REMOTE_ADDR": "192.0.2.1"})
        assert response.status_code == 403
    assert call(client, None) == BAD


def test_zero_is_no_limit(plain: Server, key: str) -> None:
    client = make_app(plain.url, auth="keys", auth_failures_per_minute=0).test_client()
    assert {call(client, None) for _ in range(200)} == {BAD}


def test_refusals_are_counted(client: FlaskClient, key: str) -> None:
    for _ in range(MOST + 3):
        call(client, None)
    figures = Figures(client.get("/metrics", headers={"X-API-Key": key}).text)
    assert figures("predlog_requests_refused_total", reason="authentication") == 3


def test_by_default_there_is_a_limit_which_the_workers_share(plain: Server, key: str, tmp_path: Path) -> None:
    with running(tmp_path, "--no-migrate", DATABASE_URL=plain.url, WORKERS="2", POOL_SIZE="2") as service:
        answers, began = [BAD], time.monotonic()
        while answers[-1] == BAD:
            answers.append(service.request("GET", ASKED, headers={"X-API-Key": "nonsense"})[0])
        # One more a second is let in, should this have taken seconds.
        let_in, lasted = len(answers) - 2, time.monotonic() - began
        assert service.request("GET", ASKED, headers={"X-API-Key": key})[0] == GOOD
    assert answers[-1] == 429
    assert 60 <= let_in <= 61 + lasted
