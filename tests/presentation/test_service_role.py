"""What the service does without the owner's password, as the workers of `make run` and of compose have it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from typing import Any
from uuid import uuid4

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine

from app.domain.keys import Scope
from app.infrastructure.key_store import PostgresKeyStore
from app.infrastructure.postgres.database import Database
from conftest import Server, make_app

NAMED = "SELECT count(*) FROM prediction_model WHERE model_name = %(model)s"
REPORTED = "SELECT count(*) FROM prediction_dropped WHERE model_name = %(model)s"


@pytest.fixture(scope="module")
def worker(server: Server) -> FlaskClient:
    if not server.concurrent:
        pytest.skip("one session for all: nobody can log in as somebody else")
    return make_app(server.service_url).test_client()


@pytest.fixture
def count(database: Engine, model: str) -> Callable[[str], Any]:
    """Ask the database itself about the model."""

    def count(statement: str) -> Any:
        with database.connect() as connection:
            return connection.exec_driver_sql(statement, {"model": model}).scalar_one()

    return count


@pytest.fixture
def key(server: Server, database: Engine) -> Iterator[int]:
    owner = Database(server.url)
    made = PostgresKeyStore(owner).add("used", Scope.READ, None, uuid4().bytes * 2)
    owner.engine.dispose()
    yield made.id
    with database.connect() as connection:
        connection.exec_driver_sql("DELETE FROM api_key WHERE id = %(id)s", {"id": made.id})


def test_it_is_ready(worker: FlaskClient) -> None:
    assert worker.get("/ready").status_code == 200


def test_it_purges_a_model_from_the_log_the_statistics_and_the_list(
    worker: FlaskClient, count: Callable[[str], Any], model: str
) -> None:
    prediction = {"model_name": model, "duration_ms": 1, "was_successful": True}
    assert worker.post("/api/v1/predict-logs", json=[prediction, prediction]).status_code == 200
    purged = worker.delete("/api/v1/predictions", query_string={"model_name": model})
    assert (purged.status_code, (purged.json or {}).get("deleted")) == (200, 2)
    assert count(NAMED) == 0
    assert worker.get("/api/v1/models", query_string={"search": model}).json == []
    assert (worker.get("/api/v1/stats", query_string={"model_name": model}).json or {})["total_requests"] == 0


def test_it_removes_reports_of_dropped_predictions(
    worker: FlaskClient, count: Callable[[str], Any], model: str
) -> None:
    minute = datetime.now(timezone.utc).replace(second=0, microsecond=0)
    report = {
        "id": str(uuid4()),
        "model_name": model,
        "timestamp": minute.isoformat(),
        "reason": "queue_full",
        "count": 7,
    }
    answer = worker.post("/api/v1/dropped", json=[report])
    assert (answer.status_code, (answer.json or {}).get("counted")) == (200, 1), answer.text
    assert count(REPORTED) == 1
    removed = worker.delete("/api/v1/dropped", query_string={"model_name": model})
    assert removed.status_code == 200, removed.text
    assert count(REPORTED) == 0
    assert (worker.get("/api/v1/stats", query_string={"model_name": model}).json or {})["dropped"] == 0


def test_it_keeps_when_a_key_was_used(server: Server, worker: FlaskClient, key: int) -> None:
    used = datetime(2026, 1, 2, tzinfo=timezone.utc)
    service = Database(server.service_url)
    PostgresKeyStore(service).mark_used({key: used})
    assert [found.last_used_at for found in PostgresKeyStore(service).all() if found.id == key] == [used]
    service.engine.dispose()
