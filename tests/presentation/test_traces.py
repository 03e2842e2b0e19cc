"""POST /v1/traces: predictions from the spans of OpenTelemetry."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import uuid4, uuid5

import pytest
from flask import Flask
from flask.testing import FlaskClient
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from sqlalchemy import Engine
from werkzeug.test import TestResponse

from app.domain.keys import Scope
from app.presentation.batch_decoder import MAX_RECORDS
from app.presentation.json_text import MAX_OBJECTS
from app.presentation.otlp import json_encoding
from app.presentation.otlp.protobuf import MAX_MESSAGE_BYTES
from app.presentation.otlp.spans import NAMESPACE, SpanMapping
from app.presentation.schemas.dropped_header import HEADER
from app.presentation.services import EXTENSION
from app.presentation.work_budget import Work
from conftest import Server, make_app

PATH = "/v1/traces"
JSON, PROTOBUF = "application/json", "application/x-protobuf"
ERROR = 2

Span = dict[str, Any]


def _value(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, list):
        return {"arrayValue": {"values": [_value(item) for item in value]}}
    if isinstance(value, dict):
        return {"kvlistValue": {"values": attributes(value)}}
    return {} if value is None else {"stringValue": value}


def attributes(values: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(value)} for key, value in values.items()]


def as_json(spans: list[Span], **resource: Any) -> bytes:
    group = {"resource": {"attributes": attributes(resource)}, "scopeSpans": [{"scope": {"name": "x"}, "spans": spans}]}
    return json.dumps({"resourceSpans": [group]}).encode()


def as_protobuf(spans: list[Span], **resource: Any) -> bytes:
    message = ExportTraceServiceRequest()
    group = message.resource_spans.add()
    _add(group.resource.attributes, attributes(resource))
    target = group.scope_spans.add()
    for span in spans:
        status, times = span.get("status", {}), (span.get("startTimeUnixNano"), span.get("endTimeUnixNano"))
        added = target.spans.add(
            trace_id=bytes.fromhex(span["traceId"]), span_id=bytes.fromhex(span["spanId"]), name=span["name"],
            start_time_unix_nano=int(times[0] or 0), end_time_unix_nano=int(times[1] or 0),
        )  # fmt: skip
        added.status.code, added.status.message = status.get("code", 0), status.get("message", "")
        _add(added.attributes, span["attributes"])
        for event in span.get("events", []):
            _add(added.events.add(name=event["name"]).attributes, event["attributes"])
    return bytes(message.SerializeToString())


def _add(target: Any, items: list[dict[str, Any]]) -> None:
    for item in items:
        added = target.add(key=item["key"])
        _set(added.value, item["value"])


def _set(target: Any, value: dict[str, Any]) -> None:
    target.SetInParent()
    for kind, content in value.items():
        if kind == "arrayValue":
            target.array_value.SetInParent()
            for item in content["values"]:
                _set(target.array_value.values.add(), item)
        elif kind == "kvlistValue":
            target.kvlist_value.SetInParent()
            _add(target.kvlist_value.values, content["values"])
        elif kind == "intValue":
            target.int_value = int(content)
        else:
            setattr(target, kind.replace("Value", "_value"), content)


@pytest.fixture
def span(model: str) -> Callable[..., Span]:
    """A span of 124 ms, a minute ago, that calls this test's model as GenAI's conventions have it."""

    def span(named: dict[str, Any] | None = None, **fields: Any) -> Span:
        start = int((datetime.now(timezone.utc) - timedelta(minutes=1)).timestamp()) * 10**9 + 123_456_789
        values = {"gen_ai.request.model": model} if named is None else named
        return {
            "traceId": uuid4().hex, "spanId": uuid4().hex[:16], "name": "chat", "kind": 3,
            "startTimeUnixNano": str(start), "endTimeUnixNano": str(start + 124_000_000),
            "attributes": attributes(values), **fields,
        }  # fmt: skip

    return span


class Door:
    """The door in one encoding, gzipped or not."""

    def __init__(self, client: FlaskClient, content_type: str, *, compressed: bool) -> None:
        self.client, self.content_type, self._compressed = client, content_type, compressed

    def send(self, spans: list[Span], **resource: Any) -> TestResponse:
        return self.send_bytes((as_json if self.content_type == JSON else as_protobuf)(spans, **resource))

    def send_bytes(self, body: bytes, **headers: str) -> TestResponse:
        if self._compressed:
            body, headers = gzip.compress(body), {"Content-Encoding": "gzip", **headers}
        return self.client.post(PATH, data=body, content_type=self.content_type, headers=headers)

    def partial(self, response: TestResponse) -> tuple[int, str]:
        """How many spans were rejected, and what the answer says of them."""
        assert response.status_code == 200, response.text
        assert response.content_type == self.content_type
        if self.content_type == JSON:
            found = response.json["partialSuccess"]
            return int(found.get("rejectedSpans", 0)), found.get("errorMessage", "")
        answer = ExportTraceServiceResponse.FromString(response.data)
        return answer.partial_success.rejected_spans, answer.partial_success.error_message

    def error(self, response: TestResponse) -> tuple[int, int, str]:
        """The status, the code of google.rpc.Status, and its message."""
        assert response.content_type == self.content_type
        if self.content_type == JSON:
            assert response.json.keys() == {"code", "message"}
            return response.status_code, response.json["code"], response.json["message"]
        status = Status.FromString(response.data)
        return response.status_code, status.code, status.message


@pytest.fixture(params=[(JSON, False), (JSON, True), (PROTOBUF, False), (PROTOBUF, True)], ids=str)
def door(request: pytest.FixtureRequest, client: FlaskClient) -> Door:
    content_type, compressed = request.param
    return Door(client, content_type, compressed=compressed)


@pytest.fixture
def listed(client: FlaskClient, model: str) -> Callable[[], list[dict[str, Any]]]:
    """Return the stored predictions of this test's model, oldest first."""
    return lambda: client.get("/api/v1/predictions", query_string={"model_name": model}).json[::-1]


# What a span becomes


def test_a_span_that_names_a_model_is_a_prediction_of_it(door: Door, span: Any, listed: Any, model: str) -> None:
    sent = span({
        "gen_ai.request.model": model, "gen_ai.response.model": "m-2024", "gen_ai.operation.name": "chat",
        "gen_ai.usage.input_tokens": 7, "gen_ai.input.messages": "secret",
    })  # fmt: skip
    assert door.partial(door.send([sent], **{"service.name": "shop"})) == (0, "")
    (prediction,) = listed()
    prediction.pop("id")
    start = datetime.fromtimestamp(int(sent["startTimeUnixNano"]) // 10**9, timezone.utc).replace(microsecond=123_456)
    assert prediction == {
        "model_name": model, "model_version": "m-2024", "duration_ms": 124, "was_successful": True,
        "timestamp": start.isoformat(), "request_id": str(uuid5(NAMESPACE, sent["traceId"] + sent["spanId"])),
        "metadata": {
            "trace_id": sent["traceId"], "span_id": sent["spanId"], "service.name": "shop",
            "gen_ai.operation.name": "chat", "gen_ai.usage.input_tokens": 7,
        },
    }  # fmt: skip


def test_attributes_of_predlog_go_first(door: Door, span: Any, listed: Any, model: str) -> None:
    request_id = str(uuid4())
    named = {
        "gen_ai.request.model": "other", "predlog.model_name": model, "predlog.model_version": 3,
        "predlog.was_successful": False, "predlog.error": "too cold", "predlog.request_id": request_id,
        "predlog.metadata.rooms": 3, "predlog.metadata.of": [1, "b", None, {"c": 0.5, "d": True}],
    }  # fmt: skip
    assert door.partial(door.send([span(named)])) == (0, "")
    (prediction,) = listed()
    assert (prediction["model_version"], prediction["was_successful"], prediction["error"]) == ("3", False, "too cold")
    assert prediction["request_id"] == request_id
    assert prediction["metadata"]["rooms"] == 3
    assert prediction["metadata"]["of"] == [1, "b", None, {"c": 0.5, "d": True}]


def test_a_model_that_only_the_answer_names_has_no_version(door: Door, span: Any, listed: Any, model: str) -> None:
    door.send([span({"gen_ai.response.model": model})])
    (prediction,) = listed()
    assert "model_version" not in prediction


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"status": {"code": ERROR, "message": "no rooms"}}, "no rooms"),
        ({"status": {"code": ERROR, "message": "x" * 5000}}, "x" * 4096),
        (
            {
                "status": {"code": ERROR},
                "events": [
                    {
                        "name": "exception",
                        "attributes": attributes({"exception.type": "ValueError", "exception.message": "no rooms"}),
                    }
                ],
            },
            "ValueError: no rooms",
        ),
        ({"status": {"code": ERROR}}, None),
        ({"attributes": attributes({"predlog.error": "no rooms"}), "status": {"code": ERROR}}, "no rooms"),
        ({"attributes": attributes({"predlog.error": "x" * 5000}), "status": {"code": ERROR}}, "x" * 4096),
    ],
)
def test_a_failed_span_is_a_failed_prediction(
    door: Door, span: Any, listed: Any, model: str, fields: dict[str, Any], error: str | None
) -> None:
    named = attributes({"gen_ai.request.model": model})
    door.send([span(**{**fields, "attributes": named + fields.get("attributes", [])})])
    (prediction,) = listed()
    assert (prediction["was_successful"], prediction.get("error")) == (False, error)


@pytest.mark.parametrize(
    "named",
    [
        {},
        {"http.route": "/buy"},
        {"gen_ai.request.model": ""},
        {"gen_ai.request.model": None},
        {"gen_ai.request.model": "m", "gen_ai.operation.name": "invoke_agent"},
        {"gen_ai.request.model": "m", "gen_ai.operation.name": "execute_tool"},
    ],
)
def test_a_span_without_a_prediction_is_passed_over(
    door: Door, span: Any, listed: Any, model: str, named: dict[str, Any]
) -> None:
    named = {key: model if value == "m" else value for key, value in named.items()}
    assert door.partial(door.send([span(named), span()])) == (0, "")
    assert len(listed()) == 1


def test_an_empty_request_is_taken(door: Door) -> None:
    assert door.partial(door.send([])) == (0, "")


def test_spans_of_many_services_come_in_one_request(client: FlaskClient, span: Any, listed: Any) -> None:
    # protobuf joins messages that are written one after the other
    body = b"".join(as_protobuf([span()], **{"service.name": name}) for name in ("a", "b"))
    assert client.post(PATH, data=body, content_type=PROTOBUF).status_code == 200
    assert {prediction["metadata"]["service.name"] for prediction in listed()} == {"a", "b"}


def test_unknown_fields_and_nulls_are_ignored(client: FlaskClient, span: Any, listed: Any) -> None:
    sent = span(status=None, events=None, links=[{"traceId": 5}], surprise={"a": 1}, flags=257)
    sent["attributes"] += [{"key": "x", "value": None}, {"key": "y"}, {"key": "z", "value": {"newValue": 1}}]
    body = json.loads(as_json([sent]))
    body["resourceSpans"] += [{"resource": None, "scopeSpans": None}, {"scopeSpans": [{"spans": None}]}]
    assert client.post(PATH, data=b"\xef\xbb\xbf" + json.dumps(body).encode(), content_type=JSON).status_code == 200
    assert len(listed()) == 1


def test_half_a_character_spoils_nothing(client: FlaskClient, span: Any, listed: Any, model: str) -> None:
    # As JSON.stringify writes texts that were cut in the middle of a character
    cut = {"gen_ai.request.model": model, "prompt": "a\ud83d", "predlog.metadata.text": "b\ude00 \U0001f600 \\ud83d"}
    assert client.post(PATH, data=as_json([span(cut), span()]), content_type=JSON).status_code == 200
    texts = {prediction["metadata"].get("text") for prediction in listed()}
    assert texts == {None, "b\ufffd \U0001f600 \\ud83d"}


# What the batch door promises


def test_a_request_that_is_sent_again_stores_nothing_new(door: Door, span: Any, listed: Any) -> None:
    spans = [span(), span()]
    assert door.partial(door.send(spans)) == door.partial(door.send([*spans, span()])) == (0, "")
    assert len(listed()) == 3


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"endTimeUnixNano": "0"}, "duration_ms"),
    ({"endTimeUnixNano": "1"}, "duration_ms"),
    ({"startTimeUnixNano": "0"}, "timestamp"),
    ({"startTimeUnixNano": "1"}, "timestamp"),
    ({"startTimeUnixNano": str(2**63 - 1), "endTimeUnixNano": str(2**63 - 1)}, "timestamp"),
    ({"traceId": "00" * 16}, "request_id"),
    ({"traceId": ""}, "request_id"),
    ({"spanId": "00" * 8}, "request_id"),
]


@pytest.mark.parametrize(("fields", "blamed"), WRONG)
def test_a_prediction_that_cannot_be_logged_is_told_and_the_others_are_stored(
    door: Door, span: Any, listed: Any, fields: dict[str, Any], blamed: str
) -> None:
    wrong = span(**fields)
    rejected, message = door.partial(door.send([span({}), wrong, span()]))
    assert rejected == 1
    assert message.startswith(f"span {wrong['spanId']}: ")
    assert blamed in message
    assert len(listed()) == 1


@pytest.mark.parametrize(
    ("named", "blamed"),
    [
        ({"predlog.model_name": "x" * 201}, "model_name"),
        ({"predlog.model_name": ["a"]}, "model_name"),
        ({"predlog.model_name": "a\0"}, "model_name"),
        ({"predlog.model_name": "a", "predlog.was_successful": "yes"}, "was_successful"),
        ({"predlog.model_name": "a", "predlog.metadata.x": "x" * 4096}, "metadata"),
        ({"predlog.model_name": "a", "predlog.request_id": "7"}, "request_id"),
    ],
)
def test_attributes_have_the_bounds_of_a_record(door: Door, span: Any, named: dict[str, Any], blamed: str) -> None:
    status, code, message = door.error(door.send([span(named)]))
    assert (status, code) == (400, 3)
    assert blamed in message


def test_three_of_many_are_told(door: Door, span: Any) -> None:
    rejected, message = door.partial(door.send([span(), *[span(endTimeUnixNano="0") for _ in range(5)]]))
    assert rejected == 5
    assert message.count("duration_ms") == 3
    assert message.endswith("and 2 more")


def test_more_predictions_than_a_batch_has_are_too_many(client: FlaskClient, span: Any) -> None:
    sent = span()
    body = as_protobuf([sent]) * (MAX_RECORDS + 1)
    response = client.post(PATH, data=body, content_type=PROTOBUF)
    assert (response.status_code, Status.FromString(response.data).code) == (413, 11)


def test_spans_that_are_passed_over_are_not_counted(client: FlaskClient, span: Any) -> None:
    body = as_protobuf([span({})]) * (MAX_RECORDS + 1)
    assert client.post(PATH, data=body, content_type=PROTOBUF).status_code == 200


@pytest.fixture
def guarded(server: Server) -> Flask:
    """With keys and a rate limit."""
    return make_app(server.url, auth="keys", rate_limit=0.01, rate_burst=2, pool_size=8 if server.concurrent else 1)


@pytest.fixture
def bound(guarded: Flask, database: Engine, model: str) -> Iterator[dict[str, str]]:
    """The headers of a key that may log this test's model alone."""
    keys = guarded.extensions[EXTENSION].keys
    record, secret = keys.create("spans", Scope.WRITE, models=[model])
    yield {"X-API-Key": secret}
    with database.connect() as connection:
        connection.exec_driver_sql("DELETE FROM api_key WHERE id = %s", (record.id,))


def test_a_key_that_is_bound_logs_its_models_alone(door: Door, guarded: Flask, bound: Any, span: Any) -> None:
    other = Door(guarded.test_client(), door.content_type, compressed=False)
    spans = [span(), span({"predlog.model_name": "another"})]
    body = (as_json if door.content_type == JSON else as_protobuf)(spans)
    rejected, message = door.partial(other.send_bytes(body, **bound))
    assert rejected == 1
    assert "This key may not log this model." in message


def test_without_a_key_the_answer_is_a_status(door: Door, guarded: Flask, span: Any, bound: Any) -> None:
    other = Door(guarded.test_client(), door.content_type, compressed=False)
    status, code, _ = other.error(other.send([span()]))
    assert (status, code) == (401, 16)


def test_beyond_the_rate_limit_the_answer_may_be_sent_again(guarded: Flask, bound: Any, span: Any) -> None:
    other = Door(guarded.test_client(), PROTOBUF, compressed=False)
    answers = [other.send_bytes(as_protobuf([span()]), **bound) for _ in range(3)]
    assert other.error(answers[-1])[:2] == (429, 8)
    assert int(answers[-1].headers["Retry-After"]) > 0


def test_while_the_database_is_away_the_answer_may_be_sent_again(away: FlaskClient, span: Any) -> None:
    for content_type in (JSON, PROTOBUF):
        other = Door(away, content_type, compressed=True)
        response = other.send([span()])
        assert other.error(response)[:2] == (503, 14)
        assert response.headers["Retry-After"] == "1"


def test_reports_of_dropped_predictions_are_taken_in_the_header(
    door: Door, client: FlaskClient, span: Any, model: str
) -> None:

    minute = datetime.now(timezone.utc).isoformat()
    report = {"id": str(uuid4()), "model_name": model, "timestamp": minute, "reason": "queue_full", "count": 7}
    body = (as_json if door.content_type == JSON else as_protobuf)([span()])
    door.partial(door.send_bytes(body, **{HEADER: json.dumps([report])}))
    stats = client.get("/api/v1/stats", query_string={"model_name": model}).json
    assert (stats["total_requests"], stats["dropped"]) == (1, 7)


# Nonsense


@pytest.mark.parametrize(
    "body",
    [
        b"x",
        b"\x0a",
        b"\x0a\x05abc",
        b"\x0b",
        b"\xff" * 20,
        b"\x00\x01",
        b"\x0a\x02\x12\xff",
        b"\x0a\xff\xff\xff\xff\x7f",
    ],
)
def test_a_body_that_is_no_protobuf_is_refused(client: FlaskClient, body: bytes) -> None:
    door = Door(client, PROTOBUF, compressed=False)
    assert door.error(door.send_bytes(body))[:2] == (400, 3)


def test_a_span_that_is_no_span_is_refused(client: FlaskClient, span: Any) -> None:
    door = Door(client, PROTOBUF, compressed=False)
    broken = as_protobuf([span({"gen_ai.request.model": "unique-name"})]).replace(b"unique-name", b"unique-nam\xff")
    assert door.error(door.send_bytes(broken))[:2] == (400, 3)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"x", b"[]", b"{}x", b'{"resourceSpans":{}}', b'{"resourceSpans":[{"scopeSpans":[{"spans":[3]}]}]}',
        b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"startTimeUnixNano":"x"}]}]}]}', b"\xff",
    ],
)  # fmt: skip
def test_a_body_that_is_no_json_of_spans_is_refused(client: FlaskClient, body: bytes) -> None:
    door = Door(client, JSON, compressed=False)
    assert door.error(door.send_bytes(body))[:2] == (400, 3)


@pytest.mark.parametrize("value", [b'{"intValue":"x"}', b'{"stringValue":3}', b"3", b'{"stringValue":"\xff"}'])
def test_a_value_that_is_none_in_json_spoils_its_span_alone(
    client: FlaskClient, span: Any, listed: Any, model: str, value: bytes
) -> None:
    door = Door(client, JSON, compressed=False)
    body = as_json([span({"gen_ai.request.model": "spoilt"}), span()])
    rejected, message = door.partial(door.send_bytes(body.replace(b'{"stringValue": "spoilt"}', value)))
    assert (rejected, "model_name" in message, len(listed())) == (1, True, 1)


def test_nothing_is_stored_of_a_body_that_is_refused(client: FlaskClient, span: Any, listed: Any) -> None:
    assert client.post(PATH, data=as_protobuf([span()]) + b"\x0a\x05abc", content_type=PROTOBUF).status_code == 400
    assert listed() == []


def test_another_content_type_is_refused(client: FlaskClient) -> None:
    response = client.post(PATH, data=b"x", content_type="text/plain")
    assert (response.status_code, response.json["code"]) == (415, 3)


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (JSON, b'{"resourceSpans":[' + b"{}," * MAX_OBJECTS + b"{}]}"),
        (PROTOBUF, b"\x0a\x80\x80\x80\x01" + b"\x12\x00" * 2**20),  # two million bytes of empty scopes
        (PROTOBUF, b"\x0a\x00" * (7 * 2**20)),
    ],
    ids=["objects", "scopes", "resources"],
)
def test_a_body_that_is_small_and_makes_much_work_is_refused(
    client: FlaskClient, content_type: str, body: bytes
) -> None:
    door = Door(client, content_type, compressed=True)
    assert door.error(door.send_bytes(body))[:2] == (413, 11)


def nested(depth: int, innermost: str) -> bytes:
    """A span with an attribute in so many objects, one in the other."""
    value = '{"kvlistValue":{"values":[{"key":"a","value":' * depth + innermost + "}]}}" * depth
    return as_json([
        {"attributes": [{"key": "predlog.metadata.x", "value": "HERE"}], "name": "chat", "traceId": "1", "spanId": "1"}
    ]).replace(b'"HERE"', value.encode())  # fmt: skip


def test_deep_attributes_that_are_small_and_make_much_work_are_refused(client: FlaskClient) -> None:
    door = Door(client, JSON, compressed=True)
    junk = f'{{"junk":[{"[]," * 100_000}[]],"stringValue":"x"}}'
    wide = f'{{"arrayValue":{{"values":[{"{}," * 100_000}{{}}]}}}}'
    for body in (nested(200, junk), nested(0, wide)):
        assert door.error(door.send_bytes(body))[:2] == (413, 11)


def test_each_level_of_an_attribute_is_not_read_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    read, decoder = [], json_encoding._VALUE

    class Counting:
        def decode(self, raw: Any) -> Any:
            read.append(len(bytes(raw)))
            return decoder.decode(raw)

    monkeypatch.setattr(json_encoding, "_VALUE", Counting())
    body = nested(50, '{"stringValue":"x"}')
    (span,) = json_encoding.read(body, SpanMapping((), (), ()), Work(len(body), len(body)))
    assert sum(read) < len(body)
    assert str(span.attributes["predlog.metadata.x"]).count("{'a': ") == 50


def test_attributes_in_objects_are_kept_as_metadata(door: Door, span: Any, listed: Any, model: str) -> None:
    asked = {"user": {"plan": "free", "tags": ["a", {"b": [1, None]}], "nothing": None}, "none": {}}
    door.send([span({"predlog.model_name": model, "predlog.metadata.asked": asked}) for _ in range(100)])
    assert [prediction["metadata"]["asked"] for prediction in listed()] == [asked] * 100


def test_a_span_of_many_megabytes_is_refused(client: FlaskClient, span: Any, model: str) -> None:
    door = Door(client, PROTOBUF, compressed=False)
    large = span({"gen_ai.request.model": model, "prompt": "x" * MAX_MESSAGE_BYTES})
    assert door.error(door.send([large]))[:2] == (413, 11)
