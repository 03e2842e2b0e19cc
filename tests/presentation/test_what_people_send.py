"""What programs really send, through all doors: it is taken as it is meant, or the error says what to do."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any
from uuid import UUID, uuid4

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from app.presentation.middleware.arguments import MAX_RECORD_BYTES

SINGLE, BATCH = "/api/v1/predict-log", "/api/v1/predict-logs"
JSON, NDJSON, FORM = "application/json", "application/x-ndjson", "application/x-www-form-urlencoded"
DOORS = {"single": (SINGLE, JSON, "%s"), "array": (BATCH, JSON, "[%s]"), "lines": (BATCH, NDJSON, "%s\n")}
Post = Callable[..., TestResponse]


@pytest.fixture(params=DOORS)
def post(request: pytest.FixtureRequest, client: FlaskClient) -> Post:
    """Send a record through each door, as an object or as text."""
    path, content_type, body = DOORS[request.param]

    def post(record: Any, before: bytes = b"") -> TestResponse:
        text = record if isinstance(record, str) else json.dumps(record)
        return client.post(path, data=before + (body % text).encode(), content_type=content_type)

    return post


@pytest.fixture
def prediction(model: str) -> dict[str, Any]:
    return {"model_name": model, "duration_ms": 1, "was_successful": True}


@pytest.fixture
def predictions(client: FlaskClient, model: str) -> Callable[[], list[dict[str, Any]]]:
    """The predictions of this test's model that are stored, without their ids."""

    def predictions() -> list[dict[str, Any]]:
        found = client.get("/api/v1/predictions", query_string={"model_name": model}).json
        return [{name: value for name, value in prediction.items() if name != "id"} for prediction in found]

    return predictions


def errors_of(response: TestResponse) -> dict[str, Any]:
    """Return the errors of the only record, from either endpoint."""
    assert response.status_code == 422, response.text
    body = response.json
    return dict(body["errors"]["json"] if "errors" in body else body["rejected"][0]["errors"])


def uuid7(milliseconds: int) -> str:
    return str(UUID(int=milliseconds << 80 | 7 << 76 | 2 << 62 | uuid4().int >> 72))


def test_null_in_an_optional_field_means_that_it_was_not_given(post: Post, prediction: Any, predictions: Any) -> None:
    nothing = dict.fromkeys(["timestamp", "model_version", "error", "metadata", "request_id"])
    assert post({**prediction, **nothing}).status_code == 200
    (stored,) = predictions()
    assert stored.keys() == {*prediction, "timestamp"}


@pytest.mark.parametrize("field", ["model_name", "duration_ms", "was_successful"])
def test_null_in_a_required_field_is_refused(post: Post, prediction: Any, field: str) -> None:
    assert errors_of(post({**prediction, field: None})).keys() == {field}


def test_a_byte_order_mark_is_skipped(post: Post, prediction: Any, predictions: Any) -> None:
    assert post(prediction, before=b"\xef\xbb\xbf").status_code == 200
    assert len(predictions()) == 1


def test_a_uuid7_without_a_timestamp_gives_the_time_and_a_retry_adds_nothing(
    post: Post, prediction: Any, predictions: Any
) -> None:
    sent = {**prediction, "request_id": uuid7(1_749_470_400_125)}
    for _ in range(3):
        assert post(sent).status_code == 200
    (stored,) = predictions()
    assert stored["timestamp"] == "2025-06-09T12:00:00.125000+00:00"


def test_a_timestamp_goes_before_the_time_in_a_uuid7(post: Post, prediction: Any, predictions: Any) -> None:
    moment = "2025-06-10T12:00:00+00:00"
    assert post({**prediction, "request_id": uuid7(1_749_470_400_125), "timestamp": moment}).status_code == 200
    assert predictions()[0]["timestamp"] == moment


@pytest.mark.parametrize("timestamp", [{}, {"timestamp": None}], ids=["left out", "null"])
def test_another_request_id_without_a_timestamp_is_refused(
    post: Post, prediction: Any, predictions: Any, timestamp: Any
) -> None:
    wrong = errors_of(post({**prediction, **timestamp, "request_id": str(uuid4())}))
    assert wrong.keys() == {"timestamp"}
    assert "UUIDv7" in wrong["timestamp"][0]
    assert predictions() == []


@pytest.mark.parametrize("milliseconds", [0, 946_684_799_999, 2**48 - 1, None], ids=str)
def test_the_time_in_a_uuid7_is_held_to_the_same_rules(post: Post, prediction: Any, milliseconds: int | None) -> None:
    in_an_hour = int((datetime.now(timezone.utc).timestamp() + 3600) * 1000)
    sent = uuid7(in_an_hour if milliseconds is None else milliseconds)
    assert errors_of(post({**prediction, "request_id": sent})).keys() == {"timestamp"}


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
def test_what_json_has_no_number_for_is_refused_with_what_to_send(
    post: Post, prediction: Any, model: str, constant: str
) -> None:
    response = post(json.dumps(prediction)[:-1] + f', "metadata": {{"score": {constant}}}}}')
    assert response.status_code in (400, 422)
    assert f"JSON has no {constant}: send null" in response.text


def test_a_line_end_in_a_string_is_refused_with_what_to_send(client: FlaskClient, prediction: Any) -> None:
    body = json.dumps(prediction)[:-1] + ', "error": "a\nb"}'
    for path, text in ((SINGLE, body), (BATCH, f"[{body}]")):
        response = client.post(path, data=text, content_type=JSON)
        assert response.status_code == 400
        assert "escaped" in response.json["message"]


@pytest.mark.parametrize("content_type", [JSON, NDJSON])
def test_lines_that_curl_has_joined_are_refused_with_what_to_do(
    client: FlaskClient, prediction: Any, predictions: Any, content_type: str
) -> None:
    response = client.post(BATCH, data=json.dumps(prediction) * 2, content_type=content_type)
    assert response.status_code in (400, 422)
    assert "--data-binary" in response.text
    assert predictions() == []


@pytest.mark.parametrize("path", [SINGLE, BATCH])
def test_the_content_type_that_curl_sends_by_itself_is_refused_with_what_to_do(
    client: FlaskClient, prediction: Any, path: str
) -> None:
    response = client.post(path, data=json.dumps(prediction), content_type=FORM)
    assert response.status_code == 415
    assert "-H 'Content-Type: application/json'" in response.json["message"]


# Bodies that are cheap to send and dear to read


def test_far_too_many_invalid_records_are_413_with_the_first_and_nothing_is_stored(
    client: FlaskClient, prediction: Any, predictions: Any
) -> None:
    body = "\n".join([json.dumps(prediction), *['{"surprise": 1}'] * 9000])
    for data, headers in ((body, {}), (gzip.compress(body.encode()), {"Content-Encoding": "gzip"})):
        response = client.post(BATCH, data=data, content_type=NDJSON, headers=headers)
        assert response.status_code == 413
        assert list(response.json["errors"]["json"]) == ["1", "2", "3"]
        assert "surprise" in response.json["errors"]["json"]["1"]
    assert predictions() == []


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_a_batch_of_usual_records_half_of_which_are_invalid_is_stored_by_half(
    client: FlaskClient, prediction: Any, encoding: str
) -> None:
    records = [
        {
            **prediction,
            "duration_ms": i if i % 2 else "x",
            "timestamp": "2025-06-09T12:00:00Z",
            "request_id": str(uuid4()),
        }
        for i in range(10_000)
    ]
    body = json.dumps(records).encode()
    response = client.post(
        BATCH,
        data=gzip.compress(body) if encoding == "gzip" else body,
        content_type=JSON,
        headers={"Content-Encoding": encoding},
    )
    assert (response.status_code, response.json["stored"], len(response.json["rejected"])) == (207, 5000, 5000)


def test_valid_records_that_are_written_unusually_are_never_too_many(client: FlaskClient, prediction: Any) -> None:
    record = {**prediction, "model_name": "m", "timestamp": "2025-06-09 12:00"}
    response = client.post(BATCH, json=[record] * 10_000)
    assert (response.status_code, response.json["stored"]) == (200, 10_000)


def test_a_record_that_no_record_can_be_is_not_decoded(client: FlaskClient, prediction: Any) -> None:
    long = {**prediction, "metadata": {"a": [[]] * (MAX_RECORD_BYTES // 3)}}
    response = client.post(BATCH, data="\n".join(map(json.dumps, [prediction, long, prediction])), content_type=NDJSON)
    assert response.status_code == 207
    assert [rejection["index"] for rejection in response.json["rejected"]] == [1]
    assert "bytes" in response.json["rejected"][0]["errors"]["_schema"][0]


@pytest.mark.parametrize(
    ("element", "status"),
    [('{"metadata":[' + "[]," * 400_000 + "1]}", 413), ('"' + "x" * 700_000 + '"', 413), ("[1 2]", 400), ("1", 422)],
    ids=["brackets", "a string", "no JSON", "no record"],
)
def test_an_array_of_many_records_is_cut_right_wherever_it_is_wrong(
    client: FlaskClient, element: str, status: int
) -> None:
    space = " " * 300_000  # so that the elements lie in different parts of the text
    body = f"[{space}1,{space}{element}{space},{space}1{space}]"
    assert client.post(BATCH, data=body, content_type=JSON).status_code == status
