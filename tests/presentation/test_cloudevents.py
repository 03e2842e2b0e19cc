"""POST /v1/cloudevents: predictions of which inference loggers tell."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import uuid4

import pytest
from cloudevents.core.bindings.http import HTTPMessage, to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine
from werkzeug.test import TestResponse

from app.application.predictions import Predictions
from app.domain.errors import StorageUnavailable
from app.domain.keys import Scope
from app.infrastructure.half_store import PostgresHalfStore
from app.presentation.batch_decoder import MAX_RECORDS
from app.presentation.json_text import MAX_OBJECTS
from app.presentation.schemas.dropped_header import HEADER
from app.presentation.services import EXTENSION
from conftest import Server, make_app

PATH = "/v1/cloudevents"
BATCHED = "application/cloudevents-batch+json"
KSERVE = "org.kubeflow.serving.inference."
SELDON = "io.seldon.serving.inference."
NOTHING = {"stored": 0, "duplicates": 0, "waiting": 0, "passed_over": 0, "rejected": []}

Event = CloudEvent
Send = Callable[..., TestResponse]


@pytest.fixture
def now() -> datetime:
    return datetime.now(timezone.utc).replace(microsecond=0) - timedelta(minutes=1)


@pytest.fixture
def pair(model: str, now: datetime) -> Callable[..., tuple[Event, Event]]:
    """The two events of a prediction of 124 ms, as KServe sends them."""

    def pair(milliseconds: int = 124, **attributes: Any) -> tuple[Event, Event]:
        common = {
            "id": str(uuid4()), "source": "http://localhost:9081/", "specversion": "1.0",
            "datacontenttype": "application/json", "inferenceservicename": model, "namespace": "shop",
            "component": "predictor", "endpoint": "default", "metadata": "{}", **attributes,
        }  # fmt: skip
        request = {**common, "type": f"{KSERVE}request", "time": now}
        response = {**common, "type": f"{KSERVE}response", "time": now + timedelta(milliseconds=milliseconds)}
        return CloudEvent(request, {"instances": [[1, 2]]}), CloudEvent(response, {"predictions": [7]})

    return pair


def _post(client: FlaskClient, message: HTTPMessage, **headers: str) -> TestResponse:
    return client.post(PATH, data=message.body, headers={**message.headers, **headers})


def binary(client: FlaskClient, event: Event, **headers: str) -> TestResponse:
    return _post(client, to_binary_event(event), **headers)


def structured(client: FlaskClient, event: Event, **headers: str) -> TestResponse:
    return _post(client, to_structured_event(event), **headers)


def batched(client: FlaskClient, *events: Event, **headers: str) -> TestResponse:
    body = b"[" + b",".join(to_structured_event(event).body for event in events) + b"]"
    return client.post(PATH, data=body, content_type=BATCHED, headers=headers)


@pytest.fixture(params=[binary, structured, batched], ids=lambda mode: mode.__name__)
def send(request: pytest.FixtureRequest, client: FlaskClient) -> Send:
    """Send an event in each mode of HTTP."""
    return lambda event, **headers: request.param(client, event, **headers)


@pytest.fixture
def listed(client: FlaskClient, model: str) -> Callable[[], list[dict[str, Any]]]:
    """Return the stored predictions of this test's model."""
    return lambda: client.get("/api/v1/predictions", query_string={"model_name": model}).json


def answer(response: TestResponse) -> tuple[int, dict[str, Any]]:
    """Return the status, and the numbers in the answer that are not 0."""
    return response.status_code, {key: value for key, value in response.json.items() if value}


# Two halves are a prediction


@pytest.mark.parametrize("response_first", [False, True])
def test_a_prediction_is_stored_when_both_of_its_events_have_come(
    send: Send, pair: Any, listed: Any, model: str, now: datetime, response_first: bool
) -> None:
    first, second = reversed(pair()) if response_first else pair()
    assert answer(send(first)) == (200, {"waiting": 1})
    assert listed() == []
    assert answer(send(second)) == (200, {"stored": 1})
    (prediction,) = listed()
    prediction.pop("id")
    prediction.pop("request_id")
    assert prediction == {
        "model_name": model, "model_version": "default", "duration_ms": 124, "was_successful": True,
        "timestamp": now.isoformat(),
        "metadata": {"id": first.get_id(), "namespace": "shop", "component": "predictor"},
    }  # fmt: skip


def test_both_events_of_a_prediction_may_come_in_one_batch(client: FlaskClient, pair: Any, listed: Any) -> None:
    (a, b), (c, d), (e, _) = pair(1), pair(2), pair()
    assert answer(batched(client, b, c, a, d, a, e)) == (200, {"stored": 2, "waiting": 1})
    assert sorted(prediction["duration_ms"] for prediction in listed()) == [1, 2]


def test_seldons_events_are_joined_by_their_requestid(send: Send, pair: Any, client: FlaskClient, model: str) -> None:
    halves = pair(requestid=str(uuid4()), modelid="classifier")
    for event, kind in zip(halves, ("request", "response"), strict=True):
        attributes = {**event.get_attributes(), "id": str(uuid4()), "type": f"{SELDON}{kind}"}
        assert send(CloudEvent(attributes, event.get_data())).status_code == 200
    name = f"{model}/classifier"
    stats = client.get("/api/v1/stats", query_string={"model_name": name}).json
    assert stats["total_requests"] == 1


def test_a_transformer_and_its_predictor_are_not_mixed_up(client: FlaskClient, pair: Any, listed: Any) -> None:
    shared_id = str(uuid4())
    outer, inner = pair(200, id=shared_id, component="transformer"), pair(100, id=shared_id)
    assert answer(batched(client, outer[0], inner[0], inner[1], outer[1])) == (200, {"stored": 2})
    assert sorted(prediction["duration_ms"] for prediction in listed()) == [100, 200]


def test_events_that_come_again_store_nothing_new(send: Send, pair: Any, listed: Any) -> None:
    request, response = pair()
    assert answer(send(request)) == answer(send(request)) == (200, {"waiting": 1})
    assert answer(send(response)) == (200, {"stored": 1})
    assert answer(send(request)) == answer(send(response)) == (200, {"duplicates": 1})
    assert len(listed()) == 1


def test_halves_that_come_at_the_same_moment_find_each_other(
    app: Flask, server: Server, pair: Any, listed: Any
) -> None:
    pairs = [pair(number) for number in range(20)]
    events = [event for both in pairs for event in both]
    with ThreadPoolExecutor(8 if server.concurrent else 1) as pool:
        statuses = list(pool.map(lambda event: structured(app.test_client(), event).status_code, events))
    again = [event for event, status in zip(events, statuses, strict=True) if status == 503]
    assert all(structured(app.test_client(), event).status_code == 200 for event in again)
    assert sorted(prediction["duration_ms"] for prediction in listed()) == list(range(20))


def test_events_of_another_type_are_passed_over(send: Send, pair: Any, listed: Any) -> None:
    request, _ = pair()
    other = CloudEvent({**request.get_attributes(), "type": "io.seldon.serving.feedback"}, {"reward": 1})
    assert answer(send(other)) == (200, {"passed_over": 1})


@pytest.mark.parametrize("version", ["0.3", "2.0", "\x00"])
def test_events_of_another_version_of_cloudevents_are_refused_in_words(
    client: FlaskClient, pair: Any, listed: Any, version: str
) -> None:
    first, second = (json.loads(to_structured_event(event).body) for event in pair())
    body = json.dumps([first, {**second, "specversion": version}])
    response = client.post(PATH, data=body, content_type="application/cloudevents-batch+json")
    assert response.status_code == 422
    assert response.json["errors"]["json"] == {"specversion": ["Must be 1.0."]}
    assert listed() == []


def test_what_an_event_carries_is_not_looked_at(client: FlaskClient, pair: Any) -> None:
    request, _ = pair()
    message = to_binary_event(request)
    response = client.post(PATH, data=b"\xff\x00 an image", headers={**message.headers, "content-type": "image/png"})
    assert answer(response) == (200, {"waiting": 1})


def test_attributes_in_headers_are_percent_encoded(client: FlaskClient, pair: Any, model: str) -> None:
    for event in pair(inferenceservicename=f"{model} ж"):
        binary(client, event)
    stats = client.get("/api/v1/stats", query_string={"model_name": f"{model} ж"}).json
    assert stats["total_requests"] == 1


@pytest.mark.parametrize(
    ("sent", "taken"),
    [
        ('"{} b"', "{} b"),
        (r'"{} \"b\\n\""', r'{} "b\n"'),
        ('"{}%20%2541"', "{} %41"),
        ('"%22{}%22"', '"{}"'),
        ('"{}', '"{}'),
        ('"{}" and "b"', '"{}" and "b"'),
    ],
)
def test_attributes_in_quotes_are_unquoted_before_they_are_percent_decoded(
    client: FlaskClient, pair: Any, model: str, sent: str, taken: str
) -> None:
    quoted = {"ce-inferenceservicename": sent.format(model), "ce-specversion": '"1.0"'}
    for event in pair():
        assert binary(client, event, **quoted).status_code == 200
    stats = client.get("/api/v1/stats", query_string={"model_name": taken.format(model)}).json
    assert stats["total_requests"] == 1


def test_an_attribute_that_is_empty_in_quotes_counts_as_not_given(client: FlaskClient, pair: Any, listed: Any) -> None:
    for event in pair():
        binary(client, event, **{"ce-endpoint": '""'})
    (prediction,) = listed()
    assert "model_version" not in prediction


def test_nulls_and_a_byte_order_mark_are_taken(client: FlaskClient, pair: Any, listed: Any) -> None:
    for event in pair():
        body = json.loads(to_structured_event(event).body) | {"endpoint": None, "subject": None, "modelid": ""}
        sent = b"\xef\xbb\xbf" + json.dumps(body).encode()
        assert client.post(PATH, data=sent, content_type="application/cloudevents+json").status_code == 200
    (prediction,) = listed()
    assert "model_version" not in prediction


def test_half_a_character_spoils_nothing(client: FlaskClient, pair: Any, listed: Any) -> None:
    request, response = pair()
    body = b"[" + to_structured_event(request).body[:-1] + rb',"subject":"cut \ud83d"},'
    body += to_structured_event(response).body + b"]"
    assert answer(client.post(PATH, data=body, content_type=BATCHED)) == (200, {"stored": 1})


# What the batch door promises


@pytest.mark.parametrize(
    ("attributes", "blamed"),
    [
        ({"inferenceservicename": None}, "model_name"),
        ({"inferenceservicename": "x" * 201}, "model_name"),
        ({"endpoint": "x" * 201}, "model_version"),
        ({"time": None}, "timestamp"),
        ({"time": "yesterday"}, "timestamp"),
        ({"time": "1999-01-01T00:00:00Z"}, "timestamp"),
        ({"id": None}, "request_id"),
        ({"namespace": "x" * 4096}, "metadata"),
    ],
)
def test_an_event_that_cannot_be_used_is_told_and_the_others_are_taken(
    client: FlaskClient, pair: Any, listed: Any, attributes: dict[str, Any], blamed: str
) -> None:
    good, broken = pair(), json.loads(to_structured_event(pair()[0]).body) | attributes
    feedback = {**broken, "type": "io.seldon.serving.feedback"}
    body = [
        json.loads(to_structured_event(good[0]).body),
        feedback,
        broken,
        json.loads(to_structured_event(good[1]).body),
    ]
    response = client.post(PATH, data=json.dumps(body), content_type=BATCHED)
    assert response.status_code == 207
    assert response.json["stored"] == 1
    ((place, errors),) = [(item["index"], item["errors"]) for item in response.json["rejected"]]
    assert (place, list(errors)) == (2, [blamed])
    assert answer(client.post(PATH, data=json.dumps([broken]), content_type=BATCHED))[0] == 422
    assert len(listed()) == 1


def test_a_response_before_its_request_is_told(send: Send, pair: Any, listed: Any) -> None:
    request, response = pair(-5)
    send(request)
    status, told = answer(send(response))
    assert (status, [item["index"] for item in told["rejected"]]) == (422, [0])
    assert "duration_ms" in told["rejected"][0]["errors"]
    assert listed() == []


def test_reports_of_dropped_predictions_are_taken(send: Send, pair: Any, client: FlaskClient, model: str) -> None:
    minute = datetime.now(timezone.utc).isoformat()
    report = {"id": str(uuid4()), "model_name": model, "timestamp": minute, "reason": "queue_full", "count": 7}
    send(pair()[0], **{HEADER: json.dumps([report])})
    assert client.get("/api/v1/stats", query_string={"model_name": model}).json["dropped"] == 7


def test_a_key_that_is_bound_logs_its_models_alone(server: Server, database: Engine, pair: Any, model: str) -> None:
    app = make_app(server.url, auth="keys", pool_size=8 if server.concurrent else 1)
    record, secret = app.extensions[EXTENSION].keys.create("events", Scope.WRITE, models=[model])
    try:
        other, own = pair(inferenceservicename="another"), pair()
        response = batched(app.test_client(), *other, *own, **{"X-API-Key": secret})
        assert (response.status_code, response.json["stored"]) == (207, 1)
        assert [item["index"] for item in response.json["rejected"]] == [0, 1]
        assert binary(app.test_client(), own[0]).status_code == 401
    finally:
        with database.connect() as connection:
            connection.exec_driver_sql("DELETE FROM api_key WHERE id = %s", (record.id,))


def test_more_events_than_a_batch_has_are_too_many(client: FlaskClient, pair: Any) -> None:
    body = b"[" + b",".join([to_structured_event(pair()[0]).body] * (MAX_RECORDS + 1)) + b"]"
    assert client.post(PATH, data=body, content_type=BATCHED).status_code == 413


def test_while_the_database_is_away_an_event_may_be_sent_again(away: FlaskClient, pair: Any) -> None:
    response = binary(away, pair()[0])
    assert (response.status_code, response.headers["Retry-After"]) == (503, "1")


# Halves that wait


WAITING = "SELECT count(*) FROM prediction_half WHERE model_name = %(model)s"
AGE = "UPDATE prediction_half SET received_at = now() - INTERVAL '25 hours' WHERE model_name = %(model)s"


def test_a_prediction_whose_other_half_never_comes_counts_as_dropped(
    send: Send, client: FlaskClient, database: Engine, pair: Any, model: str
) -> None:
    (_, alone), (request, response) = pair(), pair()
    for event in (alone, request, response):
        send(event)
    with database.connect() as connection:
        connection.exec_driver_sql(AGE, {"model": model})
        send(pair(inferenceservicename=f"{model}-other")[0])
        assert connection.exec_driver_sql(WAITING, {"model": model}).scalar() == 0
    stats = client.get("/api/v1/stats", query_string={"model_name": model}).json
    assert (stats["total_requests"], stats["dropped"]) == (1, 1)


def test_a_half_waits_for_a_day(send: Send, database: Engine, pair: Any, model: str) -> None:
    send(pair()[0])
    with database.connect() as connection:
        connection.exec_driver_sql(AGE.replace("25", "23"), {"model": model})
        send(pair(inferenceservicename=f"{model}-other")[0])
        assert connection.exec_driver_sql(WAITING, {"model": model}).scalar() == 1


def _expire(database: Engine, client: FlaskClient, pair: Any, model: str) -> None:
    with database.connect() as connection:
        connection.exec_driver_sql(AGE, {"model": model})
        structured(client, pair(inferenceservicename=f"{model}-other")[0])
        assert connection.exec_driver_sql(WAITING, {"model": model}).scalar() == 0


def _logged_and_dropped(client: FlaskClient, model: str) -> tuple[int, int]:
    stats = client.get("/api/v1/stats", query_string={"model_name": model}).json
    return stats["total_requests"], stats["dropped"]


@pytest.mark.parametrize("side", [0, 1])
def test_an_event_that_comes_again_after_its_prediction_has_expired_is_no_dropped_one(
    client: FlaskClient, database: Engine, pair: Any, model: str, side: int
) -> None:
    halves = pair()
    batched(client, *halves)
    _expire(database, client, pair, model)
    structured(client, halves[side])
    _expire(database, client, pair, model)
    assert _logged_and_dropped(client, model) == (1, 0)


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("comes_again", [True, False])
def test_a_prediction_that_could_not_be_logged_is_logged_later_or_counts_as_dropped(
    client: FlaskClient,
    database: Engine,
    pair: Any,
    model: str,
    monkeypatch: pytest.MonkeyPatch,
    comes_again: bool,
    together: bool,
) -> None:
    request, response = pair()
    if not together:
        structured(client, request)
    with monkeypatch.context() as patch:
        patch.setattr(Predictions, "log_batch", _away)
        failed = batched(client, request, response) if together else structured(client, response)
        assert failed.status_code == 503
    if comes_again:
        structured(client, response)
    _expire(database, client, pair, model)
    assert _logged_and_dropped(client, model) == ((1, 0) if comes_again else (0, 1))


@pytest.mark.parametrize("step", ["logged", "expire"])
def test_what_comes_after_a_prediction_was_logged_cannot_fail_its_event(
    client: FlaskClient, database: Engine, pair: Any, model: str, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(PostgresHalfStore, step, _away)
        assert answer(batched(client, *pair())) == (200, {"stored": 1})
    _expire(database, client, pair, model)
    assert _logged_and_dropped(client, model) == (1, 0)


def test_old_halves_that_cannot_be_counted_any_more_take_no_others_with_them(
    client: FlaskClient, database: Engine, pair: Any, model: str, now: datetime
) -> None:
    old = CloudEvent({**pair()[0].get_attributes(), "time": now - timedelta(days=20)}, {})
    batched(client, old, pair()[0])
    with database.connect() as connection:
        connection.exec_driver_sql("UPDATE prediction_stats_state SET day_from = now() - INTERVAL '10 days'")
        try:
            _expire(database, client, pair, model)
        finally:
            connection.exec_driver_sql("UPDATE prediction_stats_state SET day_from = NULL")
    assert _logged_and_dropped(client, model) == (0, 1)


def _away(*_: Any) -> None:
    raise StorageUnavailable("The database is not available.")


def test_a_purge_takes_halves_too(client: FlaskClient, database: Engine, pair: Any, model: str) -> None:
    alone, kept = pair()[0], pair(endpoint="canary")[0]
    batched(client, alone, kept, *pair())
    query = {"model_name": model, "model_version": "default"}
    assert client.delete("/api/v1/predictions", query_string=query).json["deleted"] == 1
    with database.connect() as connection:
        assert connection.exec_driver_sql(WAITING, {"model": model}).scalar() == 1


# Nonsense


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        ("application/cloudevents+json", b"", 400),
        ("application/cloudevents+json", b"x", 400),
        ("application/cloudevents+json", b"[]", 422),
        ("application/cloudevents+json", b"3", 422),
        (BATCHED, b"{}", 422),
        (BATCHED, b"[3]", 422),
        (BATCHED, b"[{}", 400),
        ("application/json", b"{}", 415),
        ("application/cloudevents+json", b'{"type":{"a":1},"id":[1]}', 200),
        ("application/cloudevents+json", b'{"type":1e999,"id":-0}', 200),
        ("application/cloudevents+json", b'{"type":"x","id":"\xff"}', 400),
        ("application/cloudevents+json", b'{"type":"x","id":["\xed\xa0\x80"]}', 400),
        ("application/cloudevents+json", b'{"type":"%s"}' % (b"x" * 20_000), 200),
        (BATCHED, b"[]", 200),
    ],
)
def test_nonsense_gets_a_clear_answer(client: FlaskClient, content_type: str, body: bytes, status: int) -> None:
    response = client.post(PATH, data=body, content_type=content_type)
    assert response.status_code == status
    assert response.json.keys() <= {"code", "status", "message", "errors", *NOTHING}


@pytest.mark.parametrize("body", [b"[" + b"{}," * MAX_OBJECTS + b"{}]", b"[" + b"{}," * (MAX_OBJECTS - 9) + b"{}]"])
def test_a_body_that_is_small_and_makes_much_work_is_refused(client: FlaskClient, body: bytes) -> None:
    headers = {"Content-Encoding": "gzip"}
    assert client.post(PATH, data=gzip.compress(body), content_type=BATCHED, headers=headers).status_code == 413
