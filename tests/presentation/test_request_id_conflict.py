"""A request id and timestamp that another model's prediction has: refused in words, and nothing is told of that one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import uuid4

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine

from app.domain.errors import RequestIdConflict
from app.domain.keys import Scope
from app.domain.predictions import Prediction
from app.infrastructure.postgres.database import Database
from app.infrastructure.prediction_store import PostgresPredictionStore
from app.presentation.services import EXTENSION
from conftest import Server, make_app

ONE, MANY = "/api/v1/predict-log", "/api/v1/predict-logs"
PROBLEM = {"request_id": [RequestIdConflict.message]}
SECRET = "what went wrong is nobody else's business"


def key() -> dict[str, str]:
    timestamp = datetime.now(timezone.utc) - timedelta(minutes=1)
    return {"request_id": str(uuid4()), "timestamp": timestamp.isoformat()}


def record(model: str, **fields: Any) -> dict[str, Any]:
    return {"model_name": model, "duration_ms": 10, "was_successful": True, **fields}


def total(client: FlaskClient, model: str) -> int:
    return int(client.get("/api/v1/stats", query_string={"model_name": model}).json["total_requests"])


@pytest.fixture
def bound(server: Server, database: Engine, model: str) -> Iterator[FlaskClient]:
    """A caller whose key may log `model` and nothing else."""
    app = make_app(server.url, auth="keys", pool_size=2 if server.concurrent else 1)
    _, sent = app.extensions[EXTENSION].keys.create("bound", Scope.WRITE, [model])
    client = app.test_client()
    client.environ_base["HTTP_X_API_KEY"] = sent
    yield client
    with database.connect() as connection:
        connection.exec_driver_sql("DELETE FROM api_key")


def test_a_single_prediction_gets_409_and_nothing_of_the_other(
    client: FlaskClient, bound: FlaskClient, model: str
) -> None:
    other, same = f"{model}-other", key()
    theirs = client.post(ONE, json=record(other, error=SECRET, metadata={"s": SECRET}, **same)).json
    response = bound.post(ONE, json=record(model, **same))
    assert response.status_code == 409
    assert response.json == {"code": 409, "status": "Conflict", "errors": {"json": PROBLEM}}
    assert SECRET not in response.text
    assert (total(client, model), total(client, other)) == (0, 1)
    assert client.get(f"/api/v1/predictions/{theirs['id']}").json == theirs


def test_the_owner_of_a_request_id_that_another_model_took_is_told(
    client: FlaskClient, bound: FlaskClient, model: str
) -> None:
    same = key()
    assert bound.post(ONE, json=record(model, **same)).status_code == 200
    owner = record(f"{model}-other", **same)
    assert client.post(ONE, json=owner).status_code == 409
    answer = client.post(MANY, json=[owner])
    assert answer.status_code == 422
    assert answer.json == {"stored": 0, "duplicates": 0, "rejected": [{"index": 0, "errors": PROBLEM}]}


def test_in_a_batch_it_is_rejected_and_the_others_are_stored(
    client: FlaskClient, bound: FlaskClient, model: str
) -> None:
    same, again = key(), record(model, **key())
    client.post(ONE, json=record(f"{model}-other", error=SECRET, **same))
    bound.post(ONE, json=again)
    batch = [record(model, duration_ms=-1), record(model), record(model, **same), again, record(model)]
    response = bound.post(MANY, json=batch)
    assert (response.status_code, response.json["stored"], response.json["duplicates"]) == (207, 2, 1)
    assert [rejected["index"] for rejected in response.json["rejected"]] == [0, 2]
    assert response.json["rejected"][1]["errors"] == PROBLEM
    assert SECRET not in response.text


def test_two_models_within_one_batch_do_not_share_a_request_id(client: FlaskClient, model: str) -> None:
    other, same = f"{model}-other", key()
    response = client.post(MANY, json=[record(model, **same), record(other, **same), record(model, **same)])
    rejected = [(each["index"], each["errors"]) for each in response.json["rejected"]]
    assert response.status_code == 207
    assert response.json["stored"] == 1
    # Which of the two is stored is the database's choice; each record of the other model is rejected.
    assert rejected in ([(1, PROBLEM)], [(0, PROBLEM), (2, PROBLEM)])
    assert response.json["duplicates"] == 2 - len(rejected)
    assert total(client, model) + total(client, other) == 1


def test_a_retry_of_the_same_model_with_another_content_is_a_duplicate(client: FlaskClient, model: str) -> None:
    same = key()
    first = client.post(ONE, json=record(model, **same)).json
    again = record(model, **same) | {"duration_ms": 99, "model_version": "2"}
    assert client.post(ONE, json=again).json == first
    assert client.post(MANY, json=[again]).json == {"stored": 0, "duplicates": 1, "rejected": []}


def test_the_same_request_id_at_another_time_is_another_prediction(client: FlaskClient, model: str) -> None:
    same = key()
    assert client.post(ONE, json=record(model, **same)).status_code == 200
    later = {**same, "timestamp": datetime.now(timezone.utc).isoformat()}
    assert client.post(ONE, json=record(f"{model}-other", **later)).status_code == 200


def test_a_rejected_record_is_counted_under_its_request_id(client: FlaskClient, model: str) -> None:
    same = key()
    client.post(ONE, json=record(model, **same))
    name = 'predlog_records_rejected_total{reason="request_id"}'
    before = _figure(client, name)
    client.post(ONE, json=record(f"{model}-other", **same))
    client.post(MANY, json=[record(f"{model}-other", **same)])
    assert _figure(client, name) == before + 2


def _figure(client: FlaskClient, name: str) -> float:
    return next(float(line.split()[1]) for line in client.get("/metrics").text.splitlines() if line.startswith(name))


def test_in_a_group_commit_only_the_prediction_that_conflicts_is_refused(server: Server, model: str) -> None:
    database = Database(server.url, pool_size=1)
    store = PostgresPredictionStore(database)
    at, request_id = datetime(2025, 6, 9, 12, tzinfo=timezone.utc), uuid4()
    mine = Prediction(model, 1.0, True, at, request_id=request_id)
    theirs = Prediction(f"{model}-other", 1.0, True, at, request_id=request_id)
    outcomes = store._add_group([mine, theirs, Prediction(model, 2.0, True, at)])
    refused = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    assert [type(error) for error in refused] == [RequestIdConflict]
    assert outcomes.index(refused[0]) in (0, 1)
    database.engine.dispose()


def test_of_two_models_that_race_for_a_request_id_one_is_stored_and_one_is_told(
    client: FlaskClient, server: Server, model: str
) -> None:
    if not server.concurrent:
        pytest.skip("all clients of this TimescaleDB share one session")
    for _ in range(10):
        same = key()
        statuses: list[int] = []
        start = threading.Barrier(2)

        def send(name: str, same: dict[str, str] = same, statuses: list[int] = statuses, start: Any = start) -> None:
            sender = client.application.test_client()
            start.wait()
            statuses.append(sender.post(ONE, json=record(name, **same)).status_code)

        threads = [threading.Thread(target=send, args=(name,)) for name in (model, f"{model}-other")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert sorted(statuses) == [200, 409]
