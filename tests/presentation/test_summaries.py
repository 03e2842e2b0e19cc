"""Summaries in a batch: taken once, checked as strictly as predictions, and counted by everything that counts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from itertools import groupby
from typing import Any
from uuid import uuid4

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from app.application.statistics import Question
from app.domain.instants import DAY, HOUR, MINUTE, TimeRange, floor
from app.domain.keys import Scope
from app.domain.statistics import Selection
from app.domain.summaries import MAX_BINS, MAX_COUNT
from app.infrastructure.statistics_store import PostgresStatisticsStore
from app.presentation.services import EXTENSION
from conftest import Server, make_app
from support.summaries import minute_of, prediction, summary

BATCH = "/api/v1/predict-logs"
TODAY = floor(datetime.now(timezone.utc), DAY)
NOON = TODAY - DAY + timedelta(hours=12)
MEASURES = {"percentiles": "0,50,90,99,100", "under_ms": "5,10,100"}

Send = Callable[..., dict[str, Any]]


@pytest.fixture
def send(client: FlaskClient) -> Send:
    """Send records as a batch, and return the receipt."""

    def send(*records: dict[str, Any], status: int = 200) -> dict[str, Any]:
        body = "\n".join(map(json.dumps, records)) + "\n"
        response = client.post(BATCH, data=body, content_type="application/x-ndjson")
        assert response.status_code == status, response.text
        return dict(response.get_json())

    return send


@pytest.fixture
def ask(client: FlaskClient, model: str) -> Callable[..., dict[str, Any]]:
    """Ask for the statistics of the model."""

    def ask(path: str = "/stats", start: datetime | None = None, end: datetime | None = None, **query: Any) -> Any:
        query = {"model_name": model, **query}
        query |= {"from": start.isoformat()} if start else {}
        query |= {"to": end.isoformat()} if end else {}
        response = client.get(f"/api/v1{path}", query_string=query)
        assert response.status_code == 200, response.text
        return response.get_json()

    return ask


def three(model: str, at: datetime = NOON, **fields: Any) -> list[dict[str, Any]]:
    """Three predictions of a minute."""
    return [
        prediction(model, at + timedelta(seconds=second), duration_ms, **fields)
        for second, duration_ms in enumerate((4.5, 20.0, 0.0))
    ]


# Counted once, and by everything


def test_a_summary_is_counted_once_however_often_it_is_sent(send: Send, ask: Any, model: str) -> None:
    sent = summary(three(model))
    assert send(sent) == {"stored": 1, "duplicates": 0, "rejected": []}
    assert send(sent, sent) == {"stored": 0, "duplicates": 2, "rejected": []}
    found = ask(**MEASURES)
    assert (found["total_requests"], found["summarized"], found["successful_requests"]) == (3, 3, 3)
    assert (found["min_duration_ms"], found["max_duration_ms"], found["completeness"]) == (0, 20, 1.0)
    assert found["average_duration_ms"] == pytest.approx(24.5 / 3)


def test_an_id_used_for_one_model_suppresses_no_summary_of_another(send: Send, ask: Any, model: str) -> None:
    sent = summary(three(model))
    send({**sent, "model_name": f"{model}-other"})
    assert send(sent)["stored"] == 1
    assert ask()["summarized"] == 3


def test_summaries_and_predictions_may_come_in_one_batch_in_any_order(send: Send, ask: Any, model: str) -> None:
    bad = {**prediction(model, NOON), "duration_ms": -1}
    worse = {**summary(three(model)), "count": 2}
    receipt = send(summary(three(model)), prediction(model, NOON), bad, worse, prediction(model, NOON), status=207)
    assert (receipt["stored"], [each["index"] for each in receipt["rejected"]]) == (3, [2, 3])
    assert (ask()["total_requests"], ask()["summarized"]) == (5, 3)


def test_an_array_may_hold_summaries(client: FlaskClient, ask: Any, model: str) -> None:
    assert client.post(BATCH, json=[summary(three(model)), *three(model)]).status_code == 200
    assert (ask()["total_requests"], ask()["summarized"]) == (6, 3)


def test_a_minute_counts_where_it_begins(send: Send, ask: Any, model: str) -> None:
    send(summary(three(model)))
    assert ask(start=NOON, end=NOON + timedelta(seconds=1))["summarized"] == 3
    assert ask(start=NOON + timedelta(seconds=1), end=NOON + HOUR)["summarized"] == 0


@pytest.mark.parametrize("group_by", [None, "model_name"])
def test_a_question_about_several_models_counts_what_was_summarised_of_them(
    server: Server, send: Send, model: str, group_by: str | None
) -> None:
    models = [model, f"{model}-other", f"{model}-third"]
    send(*(summary(three(name)) for name in models[:2]), *three(models[2]))
    client = make_app(server.service_url).test_client()  # it has not seen yet that there are summaries
    query = {"model_name": models, "percentiles": "100", **({"group_by": group_by} if group_by else {})}
    for _ in range(2):
        answer = client.get("/api/v1/stats", query_string=query).get_json()
        assert (answer["total_requests"], answer["summarized"], answer["percentiles"]) == (9, 6, {"100": 20.0})
        assert [group["summarized"] for group in answer.get("groups", [])] == ([3, 3, 0] if group_by else [])


def test_a_model_that_was_only_summarised_is_in_the_list_of_models(client: FlaskClient, send: Send, model: str) -> None:
    send(summary(three(model, NOON, model_version="2")), summary(three(model, NOON + HOUR, model_version="2")))
    ((entry),) = client.get("/api/v1/models", query_string={"model_name": model}).get_json()
    assert (entry["model_name"], entry["model_version"], entry["all_time"]["total_requests"]) == (model, "2", 6)
    (by_model,) = client.get("/api/v1/stats/models", query_string={"model_name": model}).get_json()["models"]
    assert (by_model["total_requests"], by_model["summarized"]) == (6, 6)


def test_an_answer_has_the_summaries_even_if_another_question_saw_none_meanwhile(
    server: Server, database: Engine, send: Send, model: str
) -> None:
    class Overwritten(PostgresStatisticsStore):
        """A store of which another thread, with an older snapshot, writes down that there are no summaries."""

        other_writes = 1

        def __setattr__(self, name: str, value: Any) -> None:
            super().__setattr__(name, value)
            if name == "_has_summaries" and value and self.other_writes:
                self.other_writes -= 1
                super().__setattr__(name, False)

    send(summary(three(model)))
    question = Question(Selection((model,)), TimeRange(NOON, NOON + HOUR))
    with database.connect() as connection:
        store = Overwritten(
            lambda statement, values: list(connection.exec_driver_sql(statement, values).fetchall()),
            lambda: server.engine == "citus",
        )
        beside = store.read(question, question.range, []).beside
    assert sum(tally.total for tally in beside.values()) == 3


def test_first_and_last_seen_are_as_exact_as_summaries_are(
    client: FlaskClient, send: Send, refresh: Callable[[], None], model: str
) -> None:
    exact = NOON + timedelta(hours=2, seconds=7)
    send(summary(three(model)), prediction(model, exact))
    refresh()
    (entry,) = client.get("/api/v1/models", query_string={"model_name": model}).get_json()
    assert entry["last_seen"] == exact.isoformat()
    assert entry["first_seen"] == NOON.isoformat()
    send(summary(three(model, exact + MINUTE)))
    (entry,) = client.get("/api/v1/models", query_string={"model_name": model}).get_json()
    assert entry["last_seen"] == (floor(exact, MINUTE) + MINUTE).isoformat()


# Equal to the same predictions sent whole


@dataclass
class Case:
    """Predictions within two days, and a range of whole minutes."""

    predictions: list[tuple[int, float, bool, int, bool]]
    start: int
    length: int


durations = st.one_of(
    st.sampled_from([0.0, 1.0, 10.0, 1e-9, 5e-324, 1e9]),
    st.floats(0, 1e6),
    st.floats(0.5, 500).map(lambda x: round(x, 2)),
)
cases = st.builds(
    Case,
    st.lists(
        st.tuples(st.integers(0, 2 * 24 * 3600 - 1), durations, st.booleans(), st.integers(0, 2), st.booleans()),
        min_size=1,
        max_size=40,
    ),
    st.integers(0, 2 * 24 * 60),
    st.integers(1, 2 * 24 * 60),
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=cases)
def test_summarised_predictions_give_the_same_statistics_as_whole_ones(
    client: FlaskClient, refresh: Callable[[], None], case: Case
) -> None:
    whole, sampled = f"whole-{uuid4().hex}", f"sampled-{uuid4().hex}"
    beginning = TODAY - 3 * DAY
    rows = [
        prediction(
            "?", beginning + timedelta(seconds=second), duration_ms, was_successful=success, model_version=str(version)
        )
        for second, duration_ms, success, version, _ in case.predictions
    ]
    keep = [kept for *_, kept in case.predictions]
    records = [{**row, "model_name": whole} for row in rows]
    renamed = [{**row, "model_name": sampled, "request_id": str(uuid4())} for row in rows]
    records += [row for row, kept in zip(renamed, keep) if kept]
    records += summaries(row for row, kept in zip(renamed, keep) if not kept)
    for _ in range(2):  # a retry adds nothing
        body = "\n".join(map(json.dumps, records))
        assert client.post(BATCH, data=body, content_type="application/x-ndjson").status_code == 200
    refresh()
    start = beginning + case.start * MINUTE
    span = {"from": start.isoformat(), "to": (start + case.length * MINUTE).isoformat(), **MEASURES}
    for path, extra in (
        ("/stats", {"group_by": "model_version"}),
        ("/stats/timeseries", {"bucket": "1h"}),
        ("/stats/timeseries", {"bucket": "1d", "timezone": "Asia/Kolkata"}),
    ):
        first, second = (comparable(client, path, {**span, **extra, "model_name": name}) for name in (whole, sampled))
        assert second == first
    histograms = [
        client.get("/api/v1/stats/histogram", query_string={"from": span["from"], "to": span["to"], "model_name": name})
        for name in (whole, sampled)
    ]
    assert histograms[0].get_json()["bins"] == histograms[1].get_json()["bins"]


def summaries(rows: Iterable[dict[str, Any]]) -> Sequence[dict[str, Any]]:
    def key(row: dict[str, Any]) -> Any:
        return row["model_version"], minute_of(row)

    return [summary(list(group)) for _, group in groupby(sorted(rows, key=key), key)]


def comparable(client: FlaskClient, path: str, query: dict[str, Any]) -> Any:
    response = client.get(f"/api/v1{path}", query_string=query)
    assert response.status_code == 200, response.text
    answer = response.get_json()
    tallies = [*answer.get("points", [answer]), *answer.get("groups", [])]
    return [
        {
            name: value
            for name, value in tally.items()
            if name not in ("summarized", "average_duration_ms", "groups", "freshness")
        }
        | {"average_duration_ms": pytest.approx(tally["average_duration_ms"] or 0, rel=1e-9)}
        for tally in tallies
    ]


# Refused


def changed(**fields: Any) -> Callable[[str], dict[str, Any]]:
    return lambda model: {**summary(three(model)), **fields}


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (changed(summary_id="no"), "summary_id"),
        (changed(count=0, successful_count=0), "count"),
        (changed(count=MAX_COUNT + 1), "count"),
        (changed(count=True), "count"),
        (changed(count=3.5), "count"),
        (changed(successful_count=4), "successful_count"),
        (changed(successful_count=-1), "successful_count"),
        (changed(duration_ms_min=21, duration_ms_sum=63), "duration_ms_min"),
        (changed(duration_ms_min=-1), "duration_ms_min"),
        (changed(duration_ms_sum=60.1), "duration_ms_sum"),
        (changed(duration_ms_sum=1e300), "duration_ms_sum"),
        (changed(bins=[]), "bins"),
        (changed(bins=[[76, 1], [150, 2]]), "bins"),
        (changed(bins=[[-100000, 1], [76, 1], [150, 2]]), "bins"),
        (changed(bins=[[-100000, 1], [150, 1], [76, 1]]), "bins"),
        (changed(bins=[[-100000, 1], [76, 0], [150, 2]]), "bins"),
        (changed(bins=[[-100000, 1], [76, 1], [151, 1]]), "bins"),
        (changed(bins=[[n, 1] for n in range(MAX_BINS + 1)]), "bins"),
        (changed(bins=[[1, 2, 3]]), "bins"),
        (changed(timestamp=(NOON + timedelta(seconds=1)).isoformat()), "timestamp"),
        (changed(timestamp=(TODAY - 31 * DAY).isoformat()), "timestamp"),
        (changed(timestamp=(TODAY + 2 * DAY).isoformat()), "timestamp"),
        (changed(model_name=""), "model_name"),
        (changed(model_name="a\x00b"), "model_name"),
        (changed(was_successful=True), "was_successful"),
    ],
)
def test_a_summary_that_cannot_be_true_is_rejected_alone(
    send: Send, ask: Any, model: str, make: Callable[[str], dict[str, Any]], field: str
) -> None:
    receipt = send(make(model), prediction(model, NOON), status=207)
    assert [(each["index"], list(each["errors"])) for each in receipt["rejected"]] == [(0, [field])]
    assert (ask()["total_requests"], ask()["summarized"]) == (1, 0)


def test_the_bins_of_a_batch_are_limited(client: FlaskClient, model: str) -> None:
    wide = [prediction(model, NOON, 1.02**n) for n in range(-1000, 990)]
    body = "\n".join(json.dumps(summary(wide)) for _ in range(12))
    response = client.post(BATCH, data=body, content_type="application/x-ndjson")
    assert response.status_code == 413
    assert "bins" in response.get_json()["message"]


def test_a_key_of_one_model_may_not_summarise_another(server: Server, database: Engine, model: str) -> None:
    app = make_app(server.url, auth="keys", max_new_models_per_day=0)
    with app.app_context():
        key, secret = app.extensions[EXTENSION].keys.create("mine", Scope.WRITE, [model])
    sent = [summary(three(model)), summary(three(f"{model}-other"))]
    response = app.test_client().post(BATCH, json=sent, headers={"Authorization": f"Bearer {secret}"})
    with database.connect() as connection:
        connection.exec_driver_sql("DELETE FROM api_key WHERE id = %s", (key.id,))
    assert (response.status_code, response.get_json()["stored"]) == (207, 1)
    assert [each["index"] for each in response.get_json()["rejected"]] == [1]


def test_summaries_of_too_many_new_models_are_rejected(server: Server) -> None:
    client = make_app(server.url, max_new_models_per_day=2).test_client()
    sent = [summary(three(f"new-{uuid4().hex}")) for _ in range(3)]
    response = client.post(BATCH, json=sent, environ_base={"REMOTE_ADDR": f"10.9.8.{uuid4().int % 250}"})
    assert (response.status_code, response.get_json()["stored"]) == (207, 2)


# Removed


def test_a_purge_removes_the_minutes_that_begin_in_its_range(
    client: FlaskClient, send: Send, ask: Any, model: str
) -> None:
    kept = [summary(three(model, NOON + n * MINUTE)) for n in range(3)]
    send(*kept)
    span = {"from": (NOON + MINUTE).isoformat(), "to": (NOON + 2 * MINUTE).isoformat()}
    path = "/api/v1/predictions"
    answer = client.delete(path, query_string={"model_name": model, **span})
    assert answer.status_code == 200, answer.text
    assert "3" in answer.text
    assert ask()["summarized"] == 6
    by_hour = ask("/stats/timeseries", NOON - HOUR, NOON + HOUR, bucket="1h")["points"]
    assert [point["summarized"] for point in by_hour] == [0, 6]
    assert client.delete(path, query_string={"model_name": model}).status_code == 200
    assert ask()["total_requests"] == 0
    assert client.get("/api/v1/models", query_string={"model_name": model}).get_json() == []


def test_a_single_summary_cannot_be_changed_by_hand(database: Engine, send: Send, model: str) -> None:
    send(summary(three(model)))
    for statement in ("UPDATE prediction_summary SET total_requests = 9", "DELETE FROM prediction_summary"):
        with database.connect() as connection, pytest.raises(DBAPIError, match="inserts only"):
            connection.exec_driver_sql(f"{statement} WHERE model_name = %(model)s", {"model": model})
