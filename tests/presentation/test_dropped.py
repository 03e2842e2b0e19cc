"""POST and DELETE /api/v1/dropped, and what absurd counts do to the statistics: nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen
from uuid import uuid4

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine

from app.domain.dropped import MAX_COUNT, SATURATION
from app.domain.instants import DAY, HOUR, MINUTE, floor
from app.domain.keys import Scope
from app.presentation.services import EXTENSION
from conftest import Server, make_app
from support.service import running

PATH = "/api/v1/dropped"
BATCH = "/api/v1/predict-logs"
YESTERDAY = floor(datetime.now(timezone.utc), DAY) - DAY
NOON = YESTERDAY + timedelta(hours=12)

# In two steps, because an insert is bounded.
INSERT = """
INSERT INTO prediction_dropped (id, timestamp, model_name, reason, count)
VALUES (%(id)s, %(timestamp)s, %(model)s, 'expired', 1);
UPDATE prediction_dropped SET count = %(count)s WHERE id = %(id)s
"""


def report(model: str, minute: datetime = NOON, **fields: Any) -> dict[str, Any]:
    key = {"id": str(uuid4()), "timestamp": minute.isoformat()}
    return {**key, "model_name": model, "reason": "queue_full", "count": 7, **fields}


@pytest.fixture
def dropped(client: FlaskClient, model: str) -> Callable[..., int]:
    """How many dropped predictions of a model the statistics count in a range."""

    def dropped(start: datetime | None = None, end: datetime | None = None, name: str = model) -> int:
        query = {"model_name": name}
        query |= {"from": start.isoformat()} if start else {}
        query |= {"to": end.isoformat()} if end else {}
        response = client.get("/api/v1/stats", query_string=query)
        assert response.status_code == 200, response.text
        return int(response.json["dropped"])

    return dropped


@pytest.fixture
def insert(database: Engine, model: str) -> Callable[..., None]:
    """Put a report into the table, past the service."""

    def insert(minute: datetime, count: int) -> None:
        with database.connect() as connection:
            values = {"id": str(uuid4()), "timestamp": minute, "model": model, "count": count}
            connection.exec_driver_sql(INSERT, values)

    return insert


def log_two_versions(client: FlaskClient, model: str) -> None:
    """Log 60 predictions of version 1 and 5 of version 2."""
    record = {"model_name": model, "timestamp": NOON.isoformat(), "duration_ms": 1, "was_successful": True}
    records = [{**record, "model_version": version} for version in ["1"] * 60 + ["2"] * 5]
    assert client.post(BATCH, json=records).status_code == 200


# Reports without a batch


def test_reports_are_counted_once_however_often_they_are_sent(
    client: FlaskClient, dropped: Callable[..., int], model: str
) -> None:
    first, second = report(model), report(model, reason="expired", count=2)
    answers = [client.post(PATH, json=reports).json for reports in ([first], [first, second], [second])]
    assert answers == [
        {"counted": counted, "duplicates": duplicates, "left_out": 0}
        for counted, duplicates in ((1, 0), (1, 1), (0, 1))
    ]
    assert dropped() == 9


def test_a_report_sent_by_both_ways_is_counted_once(
    client: FlaskClient, dropped: Callable[..., int], model: str
) -> None:
    sent = [report(model)]
    assert client.post(BATCH, json=[], headers={"Predlog-Dropped": json.dumps(sent)}).status_code == 200
    assert client.post(PATH, json=sent).json == {"counted": 0, "duplicates": 1, "left_out": 0}
    assert dropped() == 7


def test_an_id_used_for_one_model_suppresses_no_report_of_another(
    client: FlaskClient, dropped: Callable[..., int], model: str
) -> None:
    theirs = report(model)
    assert client.post(PATH, json=[{**theirs, "model_name": f"{model}-other"}]).status_code == 200
    assert client.post(PATH, json=[theirs]).json == {"counted": 1, "duplicates": 0, "left_out": 0}
    assert dropped() == 7


def test_a_name_in_any_script_is_taken_as_it_is(client: FlaskClient, dropped: Callable[..., int], model: str) -> None:
    body = json.dumps([report(f"модель {model}")], ensure_ascii=False).encode()
    assert client.post(PATH, data=body, content_type="application/json").status_code == 200
    assert dropped(name=f"модель {model}") == 7


def test_a_report_of_any_second_belongs_to_its_minute(
    client: FlaskClient, dropped: Callable[..., int], model: str
) -> None:
    client.post(PATH, json=[report(model, NOON + timedelta(seconds=59))])
    assert dropped(NOON, NOON + timedelta(seconds=1)) == 7
    assert dropped(NOON + timedelta(seconds=1), NOON + HOUR) == 0


def test_of_a_version_the_dropped_ones_are_those_of_all_versions_of_its_model(client: FlaskClient, model: str) -> None:
    log_two_versions(client, model)
    assert client.post(PATH, json=[report(model, count=20)]).status_code == 200
    query = {"model_name": model, "from": NOON.isoformat(), "to": (NOON + HOUR).isoformat()}
    one = client.get("/api/v1/stats", query_string={**query, "model_version": "2"}).json
    assert (one["total_requests"], one["dropped"], one["completeness"]) == (5, 20, 0.2)
    sides = client.get("/api/v1/stats/compare", query_string={**query, "version_a": "1", "version_b": "2"}).json
    assert [(sides[side]["dropped"], sides[side]["completeness"]) for side in ("a", "b")] == [(20, 0.75), (20, 0.2)]


@pytest.mark.parametrize("group_by", ["model_version", "model_name,model_version"])
def test_a_group_of_a_version_claims_no_completeness_if_predictions_were_dropped(
    client: FlaskClient, model: str, group_by: str
) -> None:
    log_two_versions(client, model)
    query = {"model_name": model, "from": NOON.isoformat(), "to": (NOON + HOUR).isoformat(), "group_by": group_by}
    before = client.get("/api/v1/stats", query_string=query).json
    assert [(group["dropped"], group["completeness"]) for group in before["groups"]] == [(0, 1.0)] * 2
    assert client.post(PATH, json=[report(model, count=35)]).status_code == 200
    after = client.get("/api/v1/stats", query_string=query).json
    assert (after["dropped"], after["completeness"]) == (35, 0.65)
    assert [(group["dropped"], group["completeness"]) for group in after["groups"]] == [(0, None)] * 2
    lines = client.get("/api/v1/stats", query_string={**query, "format": "csv"}).text.splitlines()
    assert [line.endswith(",0,") for line in lines] == [False, True, True]


def test_a_minute_counts_no_more_than_it_can_hold_by_whichever_way_it_is_reported(
    client: FlaskClient, dropped: Callable[..., int], model: str
) -> None:
    sent = [[report(model, count=MAX_COUNT - 1)] for _ in range(3)]
    assert client.post(BATCH, json=[], headers={"Predlog-Dropped": json.dumps(sent[0])}).status_code == 200
    assert client.post(PATH, json=sent[1]).json == {"counted": 1, "duplicates": 0, "left_out": MAX_COUNT - 2}
    assert client.post(BATCH, json=[], headers={"Predlog-Dropped": json.dumps(sent[2])}).status_code == 200
    assert dropped() == MAX_COUNT
    assert client.post(PATH, json=[each for reports in sent for each in reports]).status_code == 422
    assert client.post(PATH, json=sent[2]).json == {"counted": 0, "duplicates": 1, "left_out": 0}


WRONG: dict[str, dict[str, Any]] = {
    "more than a minute holds": {"count": MAX_COUNT + 1},
    "none": {"count": 0},
    "a fraction": {"count": 1.5},
    "long ago": {"timestamp": (NOON - 31 * DAY).isoformat()},
    "in the future": {"timestamp": (NOON + 3 * DAY).isoformat()},
    "no reason": {"reason": "lazy"},
}


@pytest.mark.parametrize("wrong", WRONG)
def test_one_report_that_is_not_plausible_and_none_is_counted(
    client: FlaskClient, dropped: Callable[..., int], model: str, wrong: str
) -> None:
    response = client.post(PATH, json=[report(model), report(model, **WRONG[wrong])])
    assert response.status_code == 422
    assert set(response.json["errors"]["json"]["1"]) == set(WRONG[wrong])
    assert dropped() == 0


def test_the_reports_of_a_request_are_no_more_together_than_one_may_be(
    client: FlaskClient, dropped: Callable[..., int], model: str
) -> None:
    half = MAX_COUNT // 2
    assert client.post(PATH, json=[report(model, count=half), report(model, count=half + 1)]).status_code == 422
    assert dropped() == 0
    assert client.post(PATH, json=[report(model, count=half), report(model, count=half)]).status_code == 200
    assert dropped() == MAX_COUNT


def test_a_header_that_is_not_ascii_is_refused_by_the_service_as_it_runs(server: Server, tmp_path: Path) -> None:
    if not server.concurrent:
        pytest.skip("one session is too few for a service beside the tests")
    text = json.dumps([report("модель")], ensure_ascii=False).encode().decode("latin-1")
    with running(tmp_path, "--no-migrate", DATABASE_URL=server.url, WORKERS="1", POOL_SIZE="2", AUTH="none") as service:
        headers = {"Content-Type": "application/json", "Predlog-Dropped": text}
        with pytest.raises(HTTPError) as refused:
            urlopen(Request(f"http://127.0.0.1:{service.port}{BATCH}", b"[]", headers), timeout=30)
    with refused.value as answer:
        assert answer.code == 422
        assert "ASCII" in json.load(answer)["errors"]["headers"]["Predlog-Dropped"][0]


# Answers


def test_counts_near_the_largest_number_are_answered_as_the_largest_number(
    client: FlaskClient, insert: Callable[..., None], log: Any, model: str
) -> None:
    for minute in (NOON, NOON, NOON + HOUR, NOON - 2 * DAY):
        insert(minute, SATURATION - 1)
    log(timestamp=NOON.isoformat(), model_version="1")
    log(timestamp=NOON.isoformat(), model_version="2")
    span = {"from": YESTERDAY.isoformat(), "to": (YESTERDAY + DAY).isoformat()}
    versions = {"version_a": "1", "version_b": "2"}
    asked = {
        "stats": {"model_name": model},
        "stats/timeseries": {"model_name": model, "bucket": "1h", **span},
        "stats/histogram": {"model_name": model, **span},
        "stats/compare": {"model_name": model, **versions},
        "models": {"model_name": model},
    }
    for path, query in asked.items():
        response = client.get(f"/api/v1/{path}", query_string=query)
        assert response.status_code == 200, (path, response.text)
        if path == "stats":
            assert response.json["dropped"] == SATURATION
            assert 0 < response.json["completeness"] < 1e-15
        if path == "stats/timeseries":
            assert max(point["dropped"] for point in response.json["points"]) == SATURATION
    everything = client.get(f"/api/v1/stats?group_by=model_name&model_name={model}")
    assert everything.status_code == 200
    assert everything.json["dropped"] == SATURATION
    client.delete(PATH, query_string={"model_name": model})


# Removal


def test_an_admin_removes_what_was_reported_of_a_model(
    client: FlaskClient, dropped: Callable[..., int], model: str
) -> None:
    other = f"{model}-other"
    client.post(PATH, json=[report(model), report(model, NOON - 3 * DAY, count=4), report(other)])
    assert client.delete(PATH, query_string={"model_name": model}).json == {"reports": 2, "dropped": 11}
    assert (dropped(), dropped(name=other)) == (0, 7)


def test_an_admin_removes_what_was_reported_of_a_range(
    client: FlaskClient, dropped: Callable[..., int], model: str
) -> None:
    client.post(PATH, json=[report(model, NOON + n * MINUTE, count=10**n) for n in range(4)])
    span = {"from": (NOON + timedelta(seconds=1)).isoformat(), "to": (NOON + 3 * MINUTE).isoformat()}
    answer = client.delete(PATH, query_string={"model_name": model, **span})
    assert answer.json == {"reports": 2, "dropped": 110}
    for start, end in (
        (NOON, NOON + HOUR),
        (YESTERDAY, YESTERDAY + DAY),
        (NOON, NOON + timedelta(minutes=3, seconds=1)),
    ):
        assert dropped(start, end) == 1001


def test_a_removal_needs_a_filter(client: FlaskClient) -> None:
    response = client.delete(PATH)
    assert response.status_code == 422
    assert set(response.json["errors"]["query"]) == {"model_name"}
    assert client.delete(PATH, query_string={"from": "2025-02-01", "to": "2025-01-01"}).status_code == 422


def test_the_flask_command_removes_as_the_route_does_and_says_how_many(
    client: FlaskClient, app: Flask, dropped: Callable[..., int], model: str, capfd: pytest.CaptureFixture[str]
) -> None:
    client.post(PATH, json=[report(model), report(model, NOON - 3 * DAY, count=4)])
    command = ["dropped", "remove", "--model", model, "--from", f"{YESTERDAY:%Y-%m-%d}"]
    done = app.test_cli_runner().invoke(args=command)
    assert done.exit_code == 0, done.output
    assert "1 reports of 7 dropped predictions are removed." in done.stdout
    assert dropped() == 4
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines() if "dropped.removed" in line]
    assert [(line["models"], line["dropped"]) for line in lines] in ([], [([model], 7)])
    assert app.test_cli_runner().invoke(args=["dropped", "remove"]).exit_code == 1


def test_the_command_refuses_a_name_that_is_no_text(app: Flask, model: str) -> None:
    command = ["dropped", "remove", "--model", model, "--model", os.fsdecode(b"\xff")]
    done = app.test_cli_runner().invoke(args=command)
    assert done.exit_code == 1
    assert "model_name: Must be valid Unicode" in done.stderr


@pytest.mark.parametrize("bound", ["from", "to"])
def test_an_empty_bound_is_refused_and_does_not_remove_all_reports_of_the_model(
    client: FlaskClient, app: Flask, dropped: Callable[..., int], model: str, bound: str
) -> None:
    client.post(PATH, json=[report(model)])
    assert client.delete(PATH, query_string={"model_name": model, bound: ""}).status_code == 422
    command = ["dropped", "remove", "--model", model, f"--{bound}", ""]
    assert app.test_cli_runner().invoke(args=command).exit_code == 1
    assert dropped() == 7


@dataclass(frozen=True)
class Guarded:
    """A service that needs keys, and the keys."""

    client: FlaskClient
    ids: dict[str, int]
    sent: dict[str, str]

    def call(self, method: str, caller: str, **request: Any) -> Any:
        return self.client.open(PATH, method=method, headers={"X-API-Key": self.sent[caller]}, **request)


@pytest.fixture
def guarded(server: Server, database: Engine, model: str) -> Iterator[Guarded]:
    app = make_app(server.url, auth="keys", pool_size=2 if server.concurrent else 1)
    keys = app.extensions[EXTENSION].keys
    made = {scope.value: keys.create(scope.value, scope) for scope in Scope}
    made["bound"] = keys.create("bound", Scope.WRITE, [model])
    yield Guarded(
        app.test_client(),
        {name: key.id for name, (key, _) in made.items()},
        {name: key for name, (_, key) in made.items()},
    )
    with database.connect() as connection:
        connection.exec_driver_sql("DELETE FROM api_key")


def test_a_bound_key_that_reports_another_model_is_refused_and_nothing_is_counted(
    guarded: Guarded, dropped: Callable[..., int], model: str
) -> None:
    assert guarded.call("POST", "bound", json=[report(model), report(f"{model}-other")]).status_code == 403
    assert dropped() == 0
    assert guarded.call("POST", "bound", json=[report(model)]).status_code == 200
    assert dropped() == 7


def test_a_removal_leaves_a_line_in_the_log_with_its_caller_and_filters(
    guarded: Guarded, model: str, capfd: pytest.CaptureFixture[str]
) -> None:
    guarded.call("POST", "write", json=[report(model)])
    capfd.readouterr()
    for caller in ("write", "bound", "read"):
        assert guarded.call("DELETE", caller, query_string={"model_name": model}).status_code == 403
    assert guarded.call("DELETE", "admin", query_string={"model_name": model, "to": "2100-01-01"}).status_code == 200
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines() if "dropped.removed" in line]
    assert len(lines) == 1
    assert lines[0]["by"].startswith(f"key {guarded.ids['admin']} (")
    told = {name: lines[0][name] for name in ("models", "from", "to", "reports", "dropped")}
    assert told == {
        "models": [model], "from": None, "to": "2100-01-02T00:00:00+00:00",
        "reports": 1, "dropped": 7,
    }  # fmt: skip
