"""The database away, and back: 503 meanwhile, and nobody has to restart the service."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from flask_migrate import upgrade

from app.infrastructure.embedded import EmbeddedPostgres
from conftest import make_app
from support.scratch import embedded_server

TIMEOUT = 60.0  # seconds, for what takes about one
BODY = {"model_name": "m", "duration_ms": 1, "was_successful": True, "error": "a-secret-payload"}
CALLS: list[tuple[str, str, dict[str, Any]]] = [
    ("POST", "/api/v1/predict-log", {"json": BODY}),
    ("GET", "/api/v1/predictions", {}),
    ("GET", "/api/v1/predictions/1", {}),
    ("DELETE", "/api/v1/predictions/1", {}),
    ("GET", "/api/v1/stats", {}),
    ("GET", "/api/v1/stats/timeseries", {}),
    ("GET", "/api/v1/stats/histogram", {}),
    ("GET", "/ready", {}),
]


@pytest.mark.parametrize(("method", "path", "body"), CALLS, ids=lambda value: str(value)[:30])
def test_a_call_is_answered_503_with_the_time_to_try_again(
    away: FlaskClient, method: str, path: str, body: dict[str, Any]
) -> None:
    response = away.open(path, method=method, **body)
    assert response.status_code == 503
    assert int(response.headers["Retry-After"]) >= 1
    assert response.headers["X-Request-ID"]
    assert set(response.json) == {"code", "status", "message"}
    assert (response.json["code"], response.json["status"]) == (503, "Service Unavailable")
    for secret in ("nobody", "secret-password", "127.0.0.1", "nowhere", "psycopg2", "connect"):
        assert secret not in response.text


@pytest.fixture(scope="module")
def embedded() -> Iterator[EmbeddedPostgres]:
    with embedded_server() as server:
        yield server


@pytest.fixture(scope="module")
def survivor(embedded: EmbeddedPostgres) -> FlaskClient:
    """A client of a service on a database that will be killed."""
    app = make_app(embedded.url, pool_size=3)
    with app.app_context():
        upgrade()
    return app.test_client()


def kill_the_postmaster(embedded: EmbeddedPostgres) -> None:
    pid = int((embedded.data_dir / "cluster" / "postmaster.pid").read_text().split()[0])
    os.kill(pid, signal.SIGKILL)
    until = time.monotonic() + TIMEOUT
    while _alive(pid):
        assert time.monotonic() < until
        time.sleep(0.01)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except ProcessLookupError:
        return False
    except FileNotFoundError:  # it has just ended, or there is no /proc here
        return True


def eventually(call: Callable[[], int]) -> set[int]:
    """Repeat a call until it is answered 200; the statuses on the way."""
    seen: set[int] = set()
    until = time.monotonic() + TIMEOUT
    while 200 not in seen:
        seen.add(call())
        assert time.monotonic() < until, seen
        time.sleep(0.05)
    return seen


@pytest.mark.parametrize("first", range(3))
def test_a_service_whose_server_was_killed_recovers_by_itself(
    embedded: EmbeddedPostgres, survivor: FlaskClient, first: int
) -> None:
    calls: list[Callable[[], int]] = [
        lambda: survivor.post("/api/v1/predict-log", json=BODY).status_code,
        lambda: survivor.get("/api/v1/stats").status_code,
        lambda: survivor.get("/ready").status_code,
    ]
    calls = calls[first:] + calls[:first]
    assert [eventually(call) for call in calls]
    kill_the_postmaster(embedded)
    for call in calls:
        assert eventually(call) <= {200, 503}
    assert [call() for call in calls] == [200, 200, 200], "and goes on so"


def test_nothing_that_was_acknowledged_is_lost_when_the_server_is_killed(
    embedded: EmbeddedPostgres, survivor: FlaskClient
) -> None:
    name = "acknowledged"
    assert eventually(lambda: survivor.get("/ready").status_code)
    ids = [survivor.post("/api/v1/predict-log", json={**BODY, "model_name": name}).json["id"] for _ in range(20)]
    kill_the_postmaster(embedded)
    assert eventually(lambda: survivor.get("/ready").status_code)
    listed = survivor.get("/api/v1/predictions", query_string={"model_name": name}).json
    assert sorted(record["id"] for record in listed) == sorted(ids)
    assert survivor.get("/api/v1/stats", query_string={"model_name": name}).json["total_requests"] == 20
