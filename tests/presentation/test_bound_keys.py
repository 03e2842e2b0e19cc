"""A key that reads some models gets nothing about any other one, from any route."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import urljoin
from uuid import uuid4

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine

from app.application.keys import Keys
from app.domain.keys import Scope
from app.presentation.middleware.authentication import SCOPES
from app.presentation.services import services
from conftest import Server, make_app

MINE, ALSO_MINE, OTHER = (f"bound-{name}-{uuid4().hex}" for name in ("a", "b", "c"))
PREDICTIONS = {MINE: 3, ALSO_MINE: 2, OTHER: 7}
LOST = {MINE: 1, ALSO_MINE: 0, OTHER: 50}
LIST, STATS, SERIES, HISTOGRAM, COMPARE, MODELS = (
    f"/api/v1/{path}"
    for path in ("predictions", "stats", "stats/timeseries", "stats/histogram", "stats/compare", "models")
)
EXPORT = f"{LIST}/export"
TWO_VERSIONS = {"version_a": "1", "version_b": "2"}
# Every route that takes a key that reads, but for the one record; and what it must be asked.
QUESTIONS: dict[str, dict[str, Any]] = {
    "model_statistics.list_model_statistics": {"path": "/api/v1/stats/models"},
    "error_groups.list_error_groups": {"path": "/api/v1/errors"},
    "predictions.list_predictions": {"path": LIST},
    "statistics.stats": {"path": STATS},
    "statistics.timeseries": {"path": SERIES},
    "histogram.histogram": {"path": HISTOGRAM},
    "comparison.compare": {"path": COMPARE, **TWO_VERSIONS},
    "catalogue.list_models": {"path": MODELS},
    "alerts.list_alerts": {"path": "/api/v1/alerts"},
    "alerts.history": {"path": "/api/v1/alerts/history"},
}
OTHERWISE = {"export.export_predictions", "predictions.get_prediction", "metrics.metrics"}


@dataclass(frozen=True)
class House:
    """A service with predictions of three models, two of which a key may read, and one of which another."""

    client: FlaskClient
    keys: Keys
    sent: dict[str, str]
    ids: dict[str, int]

    def get(self, path: str, caller: str = "two", **query: Any) -> Any:
        return self.client.get(path, query_string=query or None, headers={"X-API-Key": self.sent[caller]})

    def ask(self, path: str, caller: str = "two", **query: Any) -> Any:
        response = self.get(path, caller, **query)
        assert response.status_code == 200, response.text
        return response.json


@pytest.fixture(scope="module")
def house(server: Server, database: Engine) -> Iterator[House]:
    app: Flask = make_app(server.url, auth="keys", pool_size=8 if server.concurrent else 1)
    with app.app_context():
        keys = services().keys
    sent = {
        "admin": keys.create("admin", Scope.ADMIN)[1],
        "all": keys.create("all", Scope.READ)[1],
        "two": keys.create("two", Scope.READ, [MINE, ALSO_MINE])[1],
        "one": keys.create("one", Scope.READ, [MINE])[1],
        "none": keys.create("none", Scope.READ, ["never-logged"])[1],
        "writer": keys.create("writer", Scope.WRITE)[1],
    }
    client = app.test_client()
    yield House(client, keys, sent, {model: _log(client, sent["admin"], model) for model in PREDICTIONS})
    with database.connect() as connection:
        connection.exec_driver_sql("DELETE FROM api_key")


def _log(client: FlaskClient, key: str, model: str) -> int:
    """Log the predictions of a model and the report of dropped ones, and return the id of one."""
    now = datetime.now(timezone.utc).isoformat()
    records = [
        {
            "model_name": model,
            "duration_ms": n,
            "was_successful": True,
            "timestamp": now,
            "model_version": str(n % 2 + 1),
        }
        for n in range(PREDICTIONS[model])
    ]
    report = {"id": str(uuid4()), "model_name": model, "timestamp": now, "reason": "queue_full", "count": LOST[model]}
    headers = {"X-API-Key": key, "Predlog-Dropped": json.dumps([report] if report["count"] else [])}
    assert client.post("/api/v1/predict-logs", json=records, headers=headers).status_code == 200
    [record] = client.get(LIST, query_string={"model_name": model, "limit": 1}, headers=headers).json or []
    return int(record["id"])


def test_each_route_that_a_key_may_read_is_asked_here() -> None:
    assert {name for name, scope in SCOPES.items() if scope is Scope.READ} == QUESTIONS.keys() | OTHERWISE


@pytest.mark.parametrize("endpoint", QUESTIONS)
def test_no_answer_names_a_model_that_the_key_may_not_read(house: House, endpoint: str) -> None:
    response = house.get(**QUESTIONS[endpoint])
    assert response.status_code == 200, response.text
    assert OTHER not in response.text


@pytest.mark.parametrize("endpoint", QUESTIONS)
@pytest.mark.parametrize("caller", ["one", "two", "none"])
def test_to_name_another_model_is_refused(house: House, endpoint: str, caller: str) -> None:
    response = house.get(**QUESTIONS[endpoint], caller=caller, model_name=OTHER)
    assert response.status_code == 403
    assert response.json["message"] == "This key may not read this model."


@pytest.mark.parametrize("endpoint", [name for name in QUESTIONS if name != "predictions.list_predictions"])
def test_to_name_another_model_beside_its_own_is_refused(house: House, endpoint: str) -> None:
    assert house.get(**QUESTIONS[endpoint], model_name=[MINE, OTHER]).status_code == 403


def test_to_export_another_model_is_refused(house: House) -> None:
    assert house.get(EXPORT, model_name=OTHER).status_code == 403


def exported_models(house: House, caller: str = "two") -> set[str]:
    return {json.loads(line)["model_name"] for line in house.get(EXPORT, caller).data.split(b"\n")[:-1]}


def test_a_question_that_names_no_model_is_about_the_keys_own(house: House) -> None:
    assert house.ask(STATS)["total_requests"] == PREDICTIONS[MINE] + PREDICTIONS[ALSO_MINE]
    assert house.ask(STATS, "one")["total_requests"] == PREDICTIONS[MINE]
    assert house.ask(STATS, "none")["total_requests"] == 0
    points = house.ask(SERIES)["points"]
    assert sum(point["total_requests"] for point in points) == PREDICTIONS[MINE] + PREDICTIONS[ALSO_MINE]
    assert {record["model_name"] for record in house.ask(LIST)} == {MINE, ALSO_MINE}
    assert {record["model_name"] for record in house.ask(LIST, "one")} == {MINE}
    assert exported_models(house) == {MINE, ALSO_MINE}
    assert exported_models(house, "one") == {MINE}
    assert exported_models(house, "none") == set()
    assert house.ask(LIST, "none") == house.ask(MODELS, "none") == []
    assert {entry["model_name"] for entry in house.ask(MODELS)} == {MINE, ALSO_MINE}
    assert {group["model_name"] for group in house.ask(STATS, group_by="model_name")["groups"]} == {MINE, ALSO_MINE}
    sides = house.ask(COMPARE, **TWO_VERSIONS)
    assert sides["a"]["total_requests"] + sides["b"]["total_requests"] == PREDICTIONS[MINE] + PREDICTIONS[ALSO_MINE]


def test_what_was_dropped_of_other_models_is_not_told_either(house: House) -> None:
    answer = house.ask(STATS)
    logged = PREDICTIONS[MINE] + PREDICTIONS[ALSO_MINE]
    assert (answer["dropped"], answer["completeness"]) == (LOST[MINE], logged / (logged + LOST[MINE]))
    assert sum(point["dropped"] for point in house.ask(SERIES)["points"]) == LOST[MINE]
    assert house.ask(STATS, "none")["completeness"] is None


def test_a_question_about_its_own_model_is_answered_as_to_anybody(house: House) -> None:
    asked = {"model_name": MINE, "from": "2020-01-01", "to": "2050-01-01"}
    mine, anybody = (house.ask(STATS, caller, **asked) for caller in ("two", "all"))
    assert {**mine, "freshness": None} == {**anybody, "freshness": None}
    assert house.ask(LIST, "two", model_name=MINE) == house.ask(LIST, "all", model_name=MINE)


def test_pages_of_several_models_are_whole_and_in_order(house: House) -> None:
    path, seen = f"{LIST}?limit=2", []
    while path:
        response = house.get(path)
        seen += [record["id"] for record in response.json]
        link = response.headers.get("Link")
        path = urljoin(LIST, link.partition("<")[2].partition(">")[0]) if link else ""
    assert len(seen) == len(set(seen)) == PREDICTIONS[MINE] + PREDICTIONS[ALSO_MINE]
    assert seen == [record["id"] for record in house.ask(LIST)]


def test_a_record_of_another_model_is_as_if_it_were_not_there(house: House) -> None:
    assert house.ask(f"{LIST}/{house.ids[MINE]}")["model_name"] == MINE
    hidden, missing = (house.get(f"{LIST}/{id}") for id in (house.ids[OTHER], 2**62))
    assert hidden.status_code == missing.status_code == 404
    assert hidden.json["message"].replace(str(house.ids[OTHER]), "") == missing.json["message"].replace(str(2**62), "")


def test_figures_about_all_models_want_a_key_that_is_bound_to_none(house: House) -> None:
    assert house.get("/metrics").status_code == 403
    assert house.get("/metrics", "all").status_code == 200


def test_a_key_that_reads_some_models_writes_and_deletes_none(house: House) -> None:
    headers = {"X-API-Key": house.sent["two"]}
    record = {"model_name": MINE, "duration_ms": 1, "was_successful": True}
    assert house.client.post("/api/v1/predict-log", json=record, headers=headers).status_code == 403
    assert house.client.delete(f"{LIST}/{house.ids[MINE]}", headers=headers).status_code == 403


def test_the_openapi_document_says_what_a_bound_key_gets(house: House) -> None:
    paths = house.client.get("/openapi.json").json["paths"]
    for question in QUESTIONS.values():
        assert "bound to models the answer is about these alone" in paths[question["path"]]["get"]["description"]
    assert "bound to models is refused" in paths["/metrics"]["get"]["description"]


def test_an_expired_key_is_refused_and_told_so_to_its_holder_alone(house: House, database: Engine) -> None:
    now = datetime.now(timezone.utc)
    key, sent = house.keys.create("guest", Scope.READ, expires_at=now + timedelta(hours=1))
    late = Keys(house.keys._store, now=lambda: now + timedelta(hours=1))
    with pytest.raises(Exception, match="This key has expired"):
        late.identify(sent)
    with pytest.raises(Exception, match="unknown or revoked"):
        late.identify(sent + "x")
    assert Keys(house.keys._store, now=lambda: now).identify(sent) is not None
    with database.connect() as connection:
        connection.exec_driver_sql("DELETE FROM api_key WHERE id = %s", (key.id,))


def test_an_old_secret_ends_with_its_time_of_grace(house: House) -> None:
    now = datetime.now(timezone.utc)
    key, old = house.keys.create("turning", Scope.READ)
    renewed, new = house.keys.rotate(key.id, timedelta(hours=1))
    assert renewed.previous_until is not None
    at_the_end = Keys(house.keys._store, now=lambda: renewed.previous_until or now)
    assert at_the_end.identify(new) is not None
    with pytest.raises(Exception, match="unknown or revoked"):
        at_the_end.identify(old)


def test_when_a_key_was_used_is_kept(house: House) -> None:
    key, sent = house.keys.create("used", Scope.READ)
    keys = Keys(house.keys._store)
    assert key.last_used_at is None
    before = datetime.now(timezone.utc)
    keys.identify(sent)
    keys._usage.flush()
    [used] = [each.last_used_at for each in keys.all() if each.id == key.id]
    assert used is not None and before <= used <= datetime.now(timezone.utc)
    keys._store.mark_used({key.id: before - timedelta(hours=1), 2**62: before})
    [still] = [each.last_used_at for each in keys.all() if each.id == key.id]
    assert still == used, "an older note from another worker changes nothing"


# The last one: it deletes.
def test_a_delete_leaves_a_line_that_says_what_and_by_whom(house: House, capfd: pytest.CaptureFixture[str]) -> None:
    id = house.ids[OTHER]
    headers = {"X-API-Key": house.sent["admin"]}
    assert house.client.delete(f"{LIST}/{id}", headers=headers).status_code == 200
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines() if '"audit"' in line]
    [line] = [line for line in lines if line["event"] == "audit"]
    admin = house.sent["admin"].split("_")[1]
    assert (line["action"], line["prediction"]) == ("prediction.deleted", id)
    assert line["by"] == f"key {admin} (admin) from 127.0.0.1"
    assert house.sent["admin"] not in str(line)
    assert house.client.delete(f"{LIST}/{id}", headers=headers).status_code == 404
    assert '"audit"' not in capfd.readouterr().err, "nothing was deleted"
