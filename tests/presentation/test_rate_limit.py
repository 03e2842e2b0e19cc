"""RATE_LIMIT: so many requests a second for each key, or for each address if no key is needed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest
from flask.testing import FlaskClient

from app.domain.keys import Scope
from app.infrastructure.key_store import PostgresKeyStore
from app.presentation.middleware.rate_limit import _network
from app.presentation.services import services
from conftest import Server, make_app
from support.figures import Figures
from support.service import running

BURST = 5
LIMITED = "/api/v1/predictions/0"  # answered without the database
RECORD = {"model_name": "limited", "duration_ms": 1, "was_successful": True}


@pytest.fixture(scope="module")
def plain(servers: Callable[[str], Server]) -> Server:
    return servers("plain")


@pytest.fixture
def limited(plain: Server) -> FlaskClient:
    """A client of a service that lets five calls in, and one more in a quarter of an hour."""
    return make_app(plain.url, rate_limit=0.001, rate_burst=BURST).test_client()


def statuses(client: FlaskClient, number: int, address: str = "192.0.2.1", path: str = LIMITED) -> list[int]:
    return [client.get(path, environ_overrides={"REMOTE_ADDR": address}).status_code for _ in range(number)]


def test_a_caller_that_is_too_fast_is_told_when_to_call_again(limited: FlaskClient) -> None:
    assert 429 not in statuses(limited, BURST)
    response = limited.get(LIMITED, environ_overrides={"REMOTE_ADDR": "192.0.2.1"})
    assert response.status_code == 429
    assert 1 <= int(response.headers["Retry-After"]) <= 1000
    assert response.mimetype == "application/json"
    assert set(response.json) == {"code", "status", "message"}
    assert (response.json["code"], response.json["status"]) == (429, "Too Many Requests")
    assert response.headers["X-Request-ID"]


def test_others_may_still_call(limited: FlaskClient) -> None:
    assert statuses(limited, BURST + 1)[-1] == 429
    assert 429 not in statuses(limited, BURST, "192.0.2.2")


def test_all_calls_count_together(limited: FlaskClient) -> None:
    answers = [
        limited.post("/api/v1/predict-log", json=RECORD),
        limited.post("/api/v1/predict-logs", json=[RECORD]),
        limited.get("/api/v1/predictions?limit=1"),
        limited.get("/api/v1/stats?model_name=limited"),
        limited.get("/api/v1/models?model_name=limited"),
        limited.post("/api/v1/predict-log", json=RECORD),
    ]
    assert [answer.status_code for answer in answers] == [200] * 5 + [429]


def test_a_call_that_is_refused_does_nothing(limited: FlaskClient, model: str) -> None:
    statuses(limited, BURST, "127.0.0.1")
    assert limited.post("/api/v1/predict-log", json=RECORD | {"model_name": model}).status_code == 429
    stats = limited.get(f"/api/v1/stats?model_name={model}", environ_overrides={"REMOTE_ADDR": "192.0.2.9"}).json
    assert stats["total_requests"] == 0


@pytest.mark.parametrize("path", ["/health", "/ready", "/", "/docs", "/openapi.json", "/nothing"])
def test_probes_and_what_needs_no_key_are_never_limited(limited: FlaskClient, path: str) -> None:
    assert 429 not in statuses(limited, 3 * BURST, path=path)
    assert 429 not in statuses(limited, BURST), "nor are they counted"


def test_by_default_there_is_no_limit(plain: Server) -> None:
    assert 429 not in statuses(make_app(plain.url).test_client(), 300)


def test_refused_calls_are_counted(limited: FlaskClient) -> None:
    statuses(limited, BURST + 3)
    figures = Figures(limited.get("/metrics", environ_overrides={"REMOTE_ADDR": "192.0.2.3"}).text)
    assert figures("predlog_requests_refused_total", reason="rate_limit") == 3
    assert figures("predlog_http_request_duration_seconds_count", status="429") == 3


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("", "", True),
    ],
)
def test_a_network_that_one_caller_has_is_one_caller(one: str, other: str, same: bool) -> None:
    assert (_network(one) == _network(other)) is same


@pytest.fixture
def guarded(plain: Server) -> Iterator[tuple[FlaskClient, list[str]]]:
    """A service that limits, and two keys for it."""
    app = make_app(plain.url, auth="keys", rate_limit=0.001, rate_burst=BURST)
    with app.app_context():
        keys = services().keys
    made = [keys.create(name, Scope.READ) for name in ("one", "other")]
    yield app.test_client(), [key for _, key in made]
    for key, _ in made:
        keys.revoke(key.id)
    engine = cast(PostgresKeyStore, keys._store)._database.engine
    with engine.connect() as connection:
        connection.exec_driver_sql("DELETE FROM api_key")


def test_each_key_has_an_allowance_of_its_own_wherever_it_calls_from(
    guarded: tuple[FlaskClient, list[str]],
) -> None:
    client, (one, other) = guarded

    def call(key: str, address: str) -> int:
        return client.get(LIMITED, headers={"X-API-Key": key}, environ_overrides={"REMOTE_ADDR": address}).status_code

    assert 429 not in [call(one, f"192.0.2.{n}") for n in range(BURST)]
    assert call(one, "192.0.2.99") == 429
    assert 429 not in [call(other, "192.0.2.99") for _ in range(BURST)]


def test_a_call_without_a_good_key_takes_nothing_from_its_holder(guarded: tuple[FlaskClient, list[str]]) -> None:
    client, (one, _) = guarded
    for _ in range(2 * BURST):
        assert client.get(LIMITED, headers={"X-API-Key": one + "x"}).status_code == 401
    assert client.get(LIMITED, headers={"X-API-Key": one}).status_code == 422


def test_the_openapi_document_says_which_calls_are_limited(limited: FlaskClient) -> None:
    paths = limited.get("/openapi.json").json["paths"]
    documented = {
        path
        for path, item in paths.items()
        for method, operation in item.items()
        if method != "parameters" and "429" in operation["responses"]
    }
    assert documented == paths.keys() - {"/", "/health", "/ready"}


def test_the_workers_of_one_machine_share_the_allowance(plain: Server, tmp_path: Path) -> None:
    with running(
        tmp_path, "--no-migrate", DATABASE_URL=plain.url, AUTH="none", WORKERS="3", RATE_LIMIT="0.001", RATE_BURST="20"
    ) as service:
        answers: list[int] = []

        def call() -> None:
            answers.extend(service.request("GET", LIMITED)[0] for _ in range(20))

        threads = [threading.Thread(target=call) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(answers) == 80
    assert answers.count(422) == 20
    assert answers.count(429) == 60
