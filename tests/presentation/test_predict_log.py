"""POST /api/v1/predict-log"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import uuid4

import pytest
from flask.testing import FlaskClient

from app.presentation.middleware.arguments import MAX_RECORD_BYTES
from conftest import Server

URL = "/api/v1/predict-log"
Log = Callable[..., dict[str, Any]]


def now(**offset: float) -> datetime:
    return datetime.now(timezone.utc) + timedelta(**offset)


def test_the_answer_is_the_stored_record_with_its_id(client: FlaskClient, log: Log, model: str) -> None:
    sent = {"duration_ms": 124, "was_successful": True, "timestamp": "2025-06-09T12:00:00"}
    stored = log(**sent)
    assert stored == {"id": stored["id"], "model_name": model, **sent, "timestamp": "2025-06-09T12:00:00+00:00"}
    assert isinstance(stored["id"], int)
    assert client.get(f"/api/v1/predictions/{stored['id']}").json == stored


def test_optional_fields_that_were_not_sent_are_left_out(log: Log) -> None:
    assert set(log()) == {"id", "model_name", "duration_ms", "was_successful", "timestamp"}


def test_all_fields_come_back_as_they_were_sent(client: FlaskClient, log: Log) -> None:
    sent = {
        "model_version": "2.1-рк",
        "was_successful": False,
        "error": "boom ' \" \\ % {} 😀\n",
        "metadata": {"z": [1, 1.0, 0.1, 10**20, None, True, {}], "a": {"ключ": "значение", "": []}, "%s": "\\u0000"},
        "request_id": str(uuid4()),
        "timestamp": now(days=-1).isoformat(),
    }
    stored = log(**sent)
    assert {name: stored[name] for name in sent} == sent
    assert json.dumps(stored["metadata"]) == json.dumps(sent["metadata"]), "the order and the spelling of numbers too"
    assert client.get(f"/api/v1/predictions/{stored['id']}").json == stored


def test_the_longest_record_is_taken_in_its_longest_spelling_and_a_longer_body_is_413(
    client: FlaskClient, model: str
) -> None:
    def escaped(text: str) -> str:
        return "".join(f"\\u{unit:04x}" for unit in memoryview(text.encode("utf-16-le")).cast("H"))

    record = {
        "model_name": model + "😀" * (200 - len(model)),
        "model_version": "😀" * 200,
        "error": "😀" * 4096,
        "metadata": {"a": "x" * 4088},
    }
    fields = [f'"{name}":"{escaped(text)}"' for name, text in record.items() if isinstance(text, str)]
    fields += [f'"metadata":{{"a":"{escaped("x" * 4088)}"}}', '"duration_ms":1,"was_successful":true']
    body = f"{{{','.join(fields)}}}".ljust(MAX_RECORD_BYTES)
    stored = client.post(URL, data=body, content_type="application/json")
    assert stored.status_code == 200, stored.text
    assert {name: stored.json[name] for name in record} == record
    assert client.post(URL, data=body + " ", content_type="application/json").status_code == 413


@pytest.mark.parametrize(("name", "value"), [("error", ""), ("metadata", {})])
def test_an_optional_field_that_was_sent_empty_comes_back_empty(log: Log, name: str, value: Any) -> None:
    assert log(**{name: value})[name] == value


@pytest.mark.parametrize(
    ("sent", "returned"),
    [
        ("124", "124"), ("124.0", "124"), ("1e3", "1000"), ("0.35", "0.35"), ("0", "0"), ("-0.0", "0"),
        ("0.1", "0.1"), ("123456.789", "123456.789"), ("5e-324", "5e-324"), ("1e292", "1e+292"),
        ("0.30000000000000004", "0.30000000000000004"),
    ],
)  # fmt: skip
def test_durations_come_back_as_they_were_sent(client: FlaskClient, model: str, sent: str, returned: str) -> None:
    body = f'{{"model_name": "{model}", "duration_ms": {sent}, "was_successful": true}}'
    stored = client.post(URL, data=body, content_type="application/json")
    assert f'"duration_ms":{returned},' in stored.text
    assert f'"duration_ms":{returned},' in client.get(f"/api/v1/predictions/{stored.json['id']}").text


@pytest.mark.parametrize(
    ("sent", "returned"),
    [
        ("T12:30:00", "T12:30:00+00:00"),
        ("T12:30:00Z", "T12:30:00+00:00"),
        ("T12:30:00.5Z", "T12:30:00.500000+00:00"),
        ("T12:30:00.123456+00:00", "T12:30:00.123456+00:00"),
        ("T14:00:00+01:30", "T12:30:00+00:00"),
        (" 12:30", "T12:30:00+00:00"),
    ],
)
def test_times_come_back_in_utc_with_their_offset(log: Log, midnight: datetime, sent: str, returned: str) -> None:
    day = midnight.date().isoformat()
    assert log(timestamp=day + sent)["timestamp"] == day + returned


def test_without_a_timestamp_it_is_now(log: Log) -> None:
    before = now()
    assert before <= datetime.fromisoformat(log()["timestamp"]) <= now()


def test_the_content_type_may_name_its_charset(client: FlaskClient, model: str) -> None:
    body = json.dumps({"model_name": model, "duration_ms": 1, "was_successful": True, "error": "é"}, ensure_ascii=False)
    answer = client.post(URL, data=body.encode(), content_type="application/json; charset=utf-8")
    assert answer.json["error"] == "é"


def test_a_retried_prediction_returns_the_first_record_and_stores_nothing(
    client: FlaskClient, log: Log, model: str
) -> None:
    key = {"request_id": str(uuid4()), "timestamp": now(hours=-1).isoformat()}
    first = log(**key, duration_ms=1, metadata={"try": 1})
    assert log(**key, duration_ms=2, metadata={"try": 2}) == first
    assert client.get("/api/v1/predictions", query_string={"model_name": model}).json == [first]
    assert client.get("/api/v1/stats", query_string={"model_name": model}).json["total_requests"] == 1


def test_a_retry_may_write_the_same_instant_in_another_way(log: Log, midnight: datetime) -> None:
    id, day = str(uuid4()), midnight.date().isoformat()
    first = log(request_id=id, timestamp=f"{day}T12:00:00")
    again = log(request_id=id.upper().replace("-", ""), timestamp=f"{day}T15:00:00.000+03:00")
    assert again == first


def test_the_same_request_id_at_another_time_is_another_prediction(log: Log) -> None:
    id = str(uuid4())
    first, second = (log(request_id=id, timestamp=now(seconds=-n).isoformat()) for n in (1, 2))
    assert first["id"] != second["id"]


def test_predictions_without_a_request_id_are_all_kept(client: FlaskClient, log: Log, model: str) -> None:
    timestamp = now().isoformat()
    assert log(timestamp=timestamp)["id"] != log(timestamp=timestamp)["id"]


def test_a_prediction_that_was_deleted_may_be_logged_again(client: FlaskClient, log: Log) -> None:
    key = {"request_id": str(uuid4()), "timestamp": now().isoformat()}
    first = log(**key)
    assert client.delete(f"/api/v1/predictions/{first['id']}").status_code == 200
    assert log(**key)["id"] != first["id"]


def test_retries_at_the_same_moment_store_one_record(client: FlaskClient, server: Server, model: str) -> None:
    if not server.concurrent:
        pytest.skip("all clients of this TimescaleDB share one session")
    body = {"model_name": model, "duration_ms": 1, "was_successful": True}
    body |= {"request_id": str(uuid4()), "timestamp": now().isoformat()}
    answers: list[Any] = []
    application = client.application
    threads = [
        threading.Thread(target=lambda: answers.append(application.test_client().post(URL, json=body).json))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 6
    assert all(answer == answers[0] and answer["id"] for answer in answers), answers


def test_a_prediction_a_little_in_the_future_is_kept_and_counted(client: FlaskClient, log: Log, model: str) -> None:
    log(timestamp=now(minutes=4).isoformat())
    assert client.get("/api/v1/stats", query_string={"model_name": model}).json["total_requests"] == 1


@pytest.mark.parametrize(
    "timestamp",
    ["soon", "1999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z"],
)
def test_a_prediction_of_the_future_or_before_2000_is_refused(client: FlaskClient, model: str, timestamp: str) -> None:
    timestamp = now(minutes=6).isoformat() if timestamp == "soon" else timestamp
    body = {"model_name": model, "duration_ms": 1, "was_successful": True, "timestamp": timestamp}
    refusal = client.post(URL, json=body)
    assert refusal.status_code == 422
    assert set(refusal.json["errors"]["json"]) == {"timestamp"}


def _metadata_of(size: int) -> dict[str, str]:
    """An object that is `size` bytes of compact JSON in UTF-8."""
    odd = (size - len('{"k":""}')) % 2
    return {"k": "é" * ((size - len('{"k":""}')) // 2) + "e" * odd}


@pytest.mark.parametrize(
    ("field", "longest", "too_long"),
    [
        ("model_name", "😀" * 200, "x" * 201),
        ("model_version", "😀" * 200, "x" * 201),
        ("error", "é" * 4096, "x" * 4097),
        ("metadata", _metadata_of(4096), _metadata_of(4097)),
    ],
)
def test_lengths_up_to_the_limit_are_kept_and_beyond_it_refused(
    client: FlaskClient, model: str, field: str, longest: Any, too_long: Any
) -> None:
    body = {"model_name": model, "duration_ms": 1, "was_successful": True}
    kept = client.post(URL, json={**body, field: longest})
    assert kept.status_code == 200
    assert kept.json[field] == longest
    refused = client.post(URL, json={**body, field: too_long})
    assert refused.status_code == 422
    assert set(refused.json["errors"]["json"]) == {field}


def test_a_prediction_that_was_refused_is_not_kept(client: FlaskClient, model: str) -> None:
    body = {"model_name": model, "duration_ms": 1, "was_successful": True, "metadata": {"k": "x" * 5000}}
    assert client.post(URL, json=body).status_code == 422
    assert client.get("/api/v1/predictions", query_string={"model_name": model}).json == []
