"""MAX_NEW_MODELS_PER_DAY: each caller may log so many models and versions that were not known before."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from typing import Any
from uuid import uuid4

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine

from app.application.new_models import GRANTED_FOR_S, KNOWN_FOR_S, NewModels
from app.infrastructure.name_store import PostgresNameStore
from app.infrastructure.postgres.database import Database
from app.presentation.schemas.dropped_header import HEADER, LEFT_OUT_HEADER
from conftest import Server, make_app
from support.capture import statements

SINGLE, BATCH, DROPPED = "/api/v1/predict-log", "/api/v1/predict-logs", "/api/v1/dropped"
FORGET = "DELETE FROM prediction_model_allowance"
GIVE_BACK = "UPDATE prediction_model_allowance SET tat = tat - %(share)s * INTERVAL '1 day' WHERE caller = %(caller)s"


@pytest.fixture
def caller() -> str:
    return f"192.0.2.{uuid4()}"


@pytest.fixture
def workers(server: Server, database: Engine) -> Iterator[Callable[[int], FlaskClient]]:
    """Makes one more worker of a service that lets each caller log so many new models."""
    apps = []

    def worker(per_day: int) -> FlaskClient:
        apps.append(make_app(server.url, pool_size=2 if server.concurrent else 1, max_new_models_per_day=per_day))
        return apps[-1].test_client()

    forget(database)
    yield worker
    for app in apps:
        app.extensions["predlog"].predictions._store._database.engine.dispose()
    forget(database)


def forget(database: Engine) -> None:
    """Give every caller its allowance back."""
    with database.connect() as connection:
        connection.exec_driver_sql(FORGET)


def record(model: str, version: str | None = None) -> dict[str, Any]:
    return {"model_name": model, "duration_ms": 1, "was_successful": True} | (
        {"model_version": version} if version else {}
    )


def test_a_name_too_many_is_refused_in_both_doors_with_the_same_words(
    workers: Callable[[int], FlaskClient], model: str
) -> None:
    client = workers(2)
    assert client.post(SINGLE, json=record(f"{model}-1")).status_code == 200
    records = [record(f"{model}-{i}") for i in (3, 2, 2, 4, 1)]
    response = client.post(BATCH, json=records)
    refused = client.post(SINGLE, json=record(f"{model}-2"))
    assert (response.status_code, refused.status_code) == (207, 422)
    assert (response.json or {})["stored"] == 2
    assert [rejected["index"] for rejected in (response.json or {})["rejected"]] == [1, 2, 3]
    errors = (refused.json or {})["errors"]["json"]
    assert all(rejected["errors"] == errors for rejected in (response.json or {})["rejected"])
    assert "2 new models" in errors["model_name"][0]


def test_a_version_that_is_not_known_is_a_new_name(workers: Callable[[int], FlaskClient], model: str) -> None:
    client = workers(2)
    answers = [client.post(SINGLE, json=record(model, version)).status_code for version in (None, "1", "2", "1", None)]
    assert answers == [200, 200, 422, 200, 200]


def test_known_names_go_on_in_every_worker(workers: Callable[[int], FlaskClient], model: str) -> None:
    first, second = workers(1), workers(1)
    assert first.post(SINGLE, json=record(model)).status_code == 200
    assert second.post(SINGLE, json=record(f"{model}-2")).status_code == 422
    assert second.post(SINGLE, json=record(model)).status_code == 200
    assert second.post(BATCH, json=[record(model)] * 3).status_code == 200


def test_a_rejected_record_stays_at_its_place_among_those_rejected_for_other_reasons(
    workers: Callable[[int], FlaskClient], model: str
) -> None:
    client = workers(1)
    lines = [record(model), {"model_name": model}, record(f"{model}-2"), record(model)]
    body = "\n".join(map(json.dumps, lines))
    response = client.post(BATCH, data=body, content_type="application/x-ndjson")
    rejected = {each["index"]: set(each["errors"]) for each in (response.json or {})["rejected"]}
    assert rejected == {1: {"duration_ms", "was_successful"}, 2: {"model_name"}}
    assert (response.json or {})["stored"] == 2


def test_without_a_limit_any_name_is_taken(workers: Callable[[int], FlaskClient], model: str) -> None:
    response = workers(0).post(BATCH, json=[record(f"{model}-{i}") for i in range(50)])
    assert (response.json or {})["stored"] == 50


def test_a_known_name_asks_the_database_nothing(workers: Callable[[int], FlaskClient], model: str) -> None:
    client = workers(5)
    client.post(SINGLE, json=record(model))
    with statements() as sent:
        client.post(SINGLE, json=record(model))
        client.post(BATCH, json=[record(model)] * 100)
    assert [statement.text for statement in sent if "prediction_model" in statement.text] == []


def report(model: str) -> dict[str, Any]:
    return {
        "id": str(uuid4()), "model_name": model, "timestamp": datetime.now(timezone.utc).isoformat(),
        "reason": "expired", "count": 1,
    }  # fmt: skip


def with_reports(*models: str) -> dict[str, str]:
    return {HEADER: json.dumps(list(map(report, models)))}


def test_a_name_that_is_only_reported_is_a_new_name(workers: Callable[[int], FlaskClient], model: str) -> None:
    client = workers(1)
    assert client.post(DROPPED, json=[report(model)]).status_code == 200
    refused = client.post(DROPPED, json=[report(model), report(f"{model}-2")])
    assert refused.status_code == 422
    assert "1 new models" in (refused.json or {})["errors"]["json"]["model_name"][0]
    assert client.get("/api/v1/stats", query_string={"model_name": model}).json["dropped"] == 1
    assert workers(1).post(DROPPED, json=[report(model)]).status_code == 200
    assert client.post(SINGLE, json=record(f"{model}-2")).status_code == 422


def test_a_name_that_was_logged_in_any_version_may_be_reported(
    workers: Callable[[int], FlaskClient], model: str
) -> None:
    assert workers(1).post(SINGLE, json=record(model, "1")).status_code == 200
    assert workers(1).post(DROPPED, json=[report(model)]).status_code == 200


def test_reports_of_names_too_many_are_left_out_of_a_batch_and_counted(
    workers: Callable[[int], FlaskClient], model: str
) -> None:
    client = workers(1)
    headers = with_reports(model, f"{model}-2", f"{model}-3")
    answer = client.post(BATCH, json=[record(model)], headers=headers)
    assert (answer.status_code, answer.headers[LEFT_OUT_HEADER]) == (200, "2")
    statistics = {name: client.get("/api/v1/stats", query_string={"model_name": name}).json or {} for name in
                  (model, f"{model}-2")}  # fmt: skip
    assert [found["dropped"] for found in statistics.values()] == [1, 0]


@pytest.fixture
def store(server: Server) -> Iterator[PostgresNameStore]:
    database = Database(server.url, pool_size=4 if server.concurrent else 1)
    yield PostgresNameStore(database)
    database.engine.dispose()


@pytest.mark.parametrize("per_day", [1, 7, 10, 9_999, 1_000_000])
def test_the_allowance_can_be_used_at_once_and_comes_back_evenly(
    store: PostgresNameStore, database: Engine, caller: str, per_day: int
) -> None:
    began = time.monotonic()

    def came_back() -> float:
        """How much of the allowance came back, at the most, while the test ran."""
        return (time.monotonic() - began) * per_day / 86_400

    assert store.grant(caller, per_day + 3, per_day) == per_day
    assert store.grant(caller, 1, per_day) <= came_back()
    with database.connect() as connection:
        connection.exec_driver_sql(GIVE_BACK, {"share": 0.5, "caller": caller})
    assert store.grant(caller, per_day, per_day) == pytest.approx(per_day // 2, abs=2 + came_back())
    with database.connect() as connection:
        connection.exec_driver_sql(GIVE_BACK, {"share": 30, "caller": caller})
    assert store.grant(caller, 2 * per_day, per_day) == per_day


def test_callers_have_allowances_of_their_own(store: PostgresNameStore, caller: str) -> None:
    assert store.grant(caller, 5, 5) == 5
    assert store.grant(f"{caller}'", 5, 5) == 5


def test_workers_that_ask_at_the_same_time_do_not_get_more_than_there_is(
    server: Server, store: PostgresNameStore, caller: str
) -> None:
    if not server.concurrent:
        pytest.skip("all clients of this TimescaleDB share one session")
    granted: list[int] = []
    threads = [
        threading.Thread(target=lambda: granted.extend(store.grant(caller, 3, 50) for _ in range(10))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(granted), sum(granted)) == (40, 50)


def test_known_models_are_looked_up_again_after_a_while(store: PostgresNameStore, log: Any, model: str) -> None:
    clock = [0.0]
    new_models = NewModels(store, 5, lambda: clock[0])
    log()
    assert store._database.storage_engine, "the first of a process asks for it"
    asked = []
    for clock[0] in (0.0, 1.0, KNOWN_FOR_S + 1):
        with statements() as sent:
            assert new_models._refused("somebody", [(model, "")]) == set()
        asked.append(len(sent))
    assert asked == [1, 0, 1]


def test_a_model_of_which_no_prediction_is_ever_stored_is_granted_once_in_a_day(
    store: PostgresNameStore, caller: str, model: str
) -> None:
    clock = [0.0]
    new_models = NewModels(store, 1, lambda: clock[0])
    for clock[0] in (0.0, KNOWN_FOR_S + 1, 40_000.0, 80_000.0):
        assert new_models._refused(caller, [(model, "")]) == set()
        assert new_models._refused(caller, [(f"{model}-2", "")]) == {(f"{model}-2", "")}
    clock[0] = GRANTED_FOR_S + 1
    assert new_models._refused(caller, [(model, "")]) == {(model, "")}


def test_a_model_that_another_thread_makes_known_meanwhile_is_admitted(
    store: PostgresNameStore, caller: str, model: str
) -> None:
    new_models = NewModels(store, 5)

    class Name(str):
        """The model's name; when it is looked up for the second time, another thread has made it known."""

        lookups = 0

        def __hash__(self) -> int:
            Name.lookups += 1
            if Name.lookups == 2:
                assert new_models._refused(caller, [(model, "")]) == set()
            return str.__hash__(self)

    assert new_models._refused(caller, [(Name(model), "")]) == set()
    assert Name.lookups > 1
