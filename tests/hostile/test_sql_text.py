"""SQL, formats and escapes in every string that the API takes are values like any other."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import pytest
from flask import Flask
from flask_migrate import upgrade
from werkzeug.test import TestResponse

from app.domain.keys import Scope
from app.presentation.schemas.dropped_header import HEADER
from app.presentation.services import EXTENSION
from conftest import Server, make_app
from support.scratch import empty_database
from support.summaries import prediction, summary

METHODS = ("get", "post", "put", "patch", "delete")
TEXTS = [
    "'; DROP TABLE prediction_log; --",
    "' OR '1'='1",
    "') OR true --",
    '" OR ""="',
    "x' UNION SELECT version(), NULL, NULL --",
    "' || pg_sleep(30) || '",
    "1; SELECT pg_sleep(30)",
    "\\'; DELETE FROM prediction_log; --",
    "\\",
    "\\\\' OR 1=1 --",
    "E'\\x27' OR 1=1",
    "$$; DROP TABLE prediction_log; $$",
    "$1",
    "/* ' */ -- '",
    "%s",
    "%(model_names)s",
    "%(start)s %% %d %",
    ":model_name",
    "{start} {0} {} {branches!r}",
    "{conditions.__class__}",
    "${jndi:ldap://127.0.0.1/a}",
    "<script>alert(1)</script>",
    "../../../../etc/passwd",
    "a\nSet-Cookie: b=c\r\n\r\n",
    "%27%20OR%201%3D1",
    "ʼ; DROP TABLE prediction_log; --",
    "\u202e'\u2028\ufeff\u200b",
    "null",
    "NaN",
    "-1",
    "=cmd|' /C calc'!A0",
]
# What PostgreSQL cannot keep, and has to be refused.
NO_TEXTS = ["\0", "a\0'; DROP TABLE prediction_log; --", "\ud800' OR 1=1 --"]


@dataclass(frozen=True)
class Place:
    """A string parameter of an operation: its place, and the request that it belongs to."""

    operation: str
    name: str
    statuses: frozenset[int]
    request: dict[str, Any] = field(repr=False)
    into: tuple[Any, ...]
    is_list: bool = False

    def with_text(self, text: str) -> dict[str, Any]:
        """The request with that text there, as the client's arguments."""
        request = deepcopy(self.request)
        part = request
        for step in self.into[:-1]:
            part = part[step]
        part[self.into[-1]] = [text] if self.is_list else text
        if HEADER in request["headers"]:
            request["headers"][HEADER] = json.dumps(request["headers"][HEADER])
        lines = request["headers"].get("Content-Type") == "application/x-ndjson"
        if request["body"] is not None:
            request["data"] = json.dumps(request["body"][0] if lines else request["body"])
        del request["body"]
        return request


def places(document: dict[str, Any]) -> Iterator[Place]:
    """Every string that the document says may be sent."""
    for path, item in document["paths"].items():
        for method in METHODS:
            if method in item:
                # What an operation says of a parameter goes before what its path says.
                parameters = [*item.get("parameters", []), *item[method].get("parameters", [])]
                unique = {(parameter["in"], parameter["name"]): parameter for parameter in parameters}
                yield from _places_of(document, path, method, list(unique.values()))


def _places_of(document: dict[str, Any], path: str, method: str, parameters: list[dict[str, Any]]) -> Iterator[Place]:
    operation = document["paths"][path][method]
    statuses = frozenset(int(status) for status in operation["responses"] if status != "default")
    example: dict[str, Any] = {
        "query_string": {p["name"]: _written(p) for p in parameters if p["in"] == "query" and "example" in p["schema"]},
        "headers": {"Content-Type": "application/json"},
        "body": None,
        "path": {p["name"]: str(p["schema"]["example"]) for p in parameters if p["in"] == "path"},
    }

    def place(name: str, *into: Any, **kwargs: Any) -> Place:
        return Place(f"{method.upper()} {path}", name, statuses, kwargs.pop("request", example), into, **kwargs)

    for parameter in parameters:
        name = parameter["name"]
        if parameter["in"] == "query":
            repeated = parameter["schema"].get("type") == "array" and parameter.get("explode", True)
            yield place(name, "query_string", name, is_list=repeated)
        elif parameter["in"] == "path":
            yield place(name, "path", name)
        elif parameter["in"] == "header" and "content" in parameter:
            body = operation["requestBody"]["content"]["application/json"]["example"]
            request = {**example, "body": body, "headers": {**example["headers"], name: [dropped_report("a")]}}
            items = _resolved(document, parameter["content"]["application/json"]["schema"]["items"])
            for property in items["properties"]:
                yield place(f"{name}.{property}", "headers", name, 0, property, request=request)
        else:
            yield place(name, "headers", name)
    for media, body in operation.get("requestBody", {}).get("content", {}).items():
        examples = body["example"]
        records = [json.loads(line) for line in examples.splitlines()] if isinstance(examples, str) else examples
        one = body["schema"].get("items", body["schema"])
        for kind in one.get("anyOf", [one]):
            yield from _places_in(place, media, _resolved(document, kind).get("properties"), records, example)


def _places_in(
    place: Callable[..., Place], media: str, properties: dict[str, Any] | None, records: Any, example: dict[str, Any]
) -> Iterator[Place]:
    """Every string of one kind of record in a body."""
    if properties and "summary_id" in properties:
        records = [summary([prediction("a", datetime.now(timezone.utc))])]
    request = {**example, "body": records, "headers": {"Content-Type": media}}
    at = ("body",) if isinstance(records, dict) else ("body", 0)
    first = records[0] if isinstance(records, list) and records else {}
    for property, schema in (first if properties is None else properties).items():
        yield place(f"{media} {property}", *at, property, request=request)
        if isinstance(schema, dict) and schema.get("type") == "object":
            deep = deepcopy(request)
            (deep["body"] if len(at) == 1 else deep["body"][0])[property] = {}
            yield place(f"{media} {property}.key", *at, property, "key", request=deep)


def dropped_report(model_name: str) -> dict[str, Any]:
    """Three predictions that a client dropped."""
    key = {"id": str(uuid4()), "timestamp": datetime.now(timezone.utc).isoformat()}
    return {**key, "model_name": model_name, "reason": "expired", "count": 3}


def _resolved(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    name = schema.get("$ref", "").rpartition("/")[2]
    return document["components"]["schemas"][name] if name else schema


def _written(parameter: dict[str, Any]) -> Any:
    example = parameter["schema"]["example"]
    separate = parameter.get("explode", True) and isinstance(example, list)
    return example if separate or not isinstance(example, list) else ",".join(map(str, example))


@dataclass
class Service:
    """A service with a database of its own, and keys."""

    app: Flask
    key: str

    def send(self, operation: str, headers: dict[str, str], path: dict[str, str], **request: Any) -> TestResponse:
        method, url = operation.split(" ", 1)
        for name, value in path.items():
            url = url.replace(f"{{{name}}}", "".join(f"%{byte:02X}" for byte in value.encode(errors="surrogatepass")))
        query = {
            name: [part.encode(errors="surrogatepass") if isinstance(part, str) else part for part in _list(value)]
            for name, value in request.pop("query_string", {}).items()
        }
        headers = {"X-API-Key": self.key, **headers}
        return self.app.test_client().open(url, method=method, headers=headers, query_string=query, **request)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


@pytest.fixture(scope="module")
def service(server: Server) -> Iterator[Service]:
    with empty_database(server) as url:
        app = make_app(url, auth="keys", pool_size=4 if server.concurrent else 1)
        with app.app_context():
            upgrade()
        yield Service(app, app.extensions[EXTENSION].keys.create("attacker", Scope.ADMIN)[1])


@pytest.fixture(scope="module")
def document(service: Service) -> dict[str, Any]:
    return dict(service.app.test_client().get("/openapi.json").json)


def test_the_walk_through_the_document_finds_every_kind_of_string(document: dict[str, Any]) -> None:
    found = {(place.operation, place.name) for place in places(document)}
    assert found >= {
        ("GET /api/v1/predictions", "cursor"),
        ("GET /api/v1/predictions/{prediction_id}", "prediction_id"),
        ("GET /api/v1/stats", "group_by"),
        ("GET /api/v1/stats/compare", "version_a"),
        ("GET /api/v1/models", "model_name"),
        ("POST /api/v1/predict-log", "application/json model_name"),
        ("POST /api/v1/predict-log", "application/json metadata.key"),
        ("POST /api/v1/predict-logs", "application/json error"),
        ("POST /api/v1/predict-logs", "application/json summary_id"),
        ("POST /api/v1/predict-logs", "application/x-ndjson model_name"),
        ("POST /api/v1/predict-logs", "Predlog-Dropped.model_name"),
    }


def test_the_requests_that_the_texts_are_put_into_are_answered(service: Service, document: dict[str, Any]) -> None:
    for place in places(document):
        if place.into[0] == "body" and place.name.endswith((" model_name", " error", " model_version")):
            assert service.send(place.operation, **place.with_text("a")).status_code == 200, place
        if place.name == "model_version" and place.into[0] == "query_string" and "compare" not in place.operation:
            assert service.send(place.operation, **place.with_text("a")).status_code == 200, place


@pytest.mark.parametrize("text", [*TEXTS, *NO_TEXTS])
def test_no_text_in_any_string_is_more_than_text(service: Service, document: dict[str, Any], text: str) -> None:
    answers = 0
    for place in places(document):
        answer = service.send(place.operation, **place.with_text(text))
        assert answer.status_code in place.statuses, (place, answer.text)
        assert answer.status_code < 500, (place, answer.text)
        may_be_skipped = place.name.endswith(" id") or place.operation.endswith("/cloudevents")
        assert text not in NO_TEXTS or answer.status_code >= 400 or may_be_skipped, place
        assert answer.json is not None or place.operation.endswith("/export"), place
        answers += 1
    assert answers > 40
    assert service.app.test_client().get("/ready").status_code == 200


def test_no_text_in_a_header_is_more_than_text(service: Service) -> None:
    refused = {"X-API-Key": 401, "Authorization": 401, "Host": 403}  # as wrong keys, and a host of nobody's
    for text in TEXTS:
        if text.isascii() and text.isprintable():
            for name in ("X-API-Key", "Authorization", "X-Request-ID", "Content-Encoding", "Host", "Accept"):
                value = f"Bearer {text}" if name == "Authorization" else text
                headers: dict[str, str] = {"X-API-Key": "", name: value} if name == "Authorization" else {name: value}
                answer = service.send("GET /api/v1/predictions", headers, {}, query_string={"model_name": "nobody"})
                assert answer.status_code == refused.get(name, 200), (name, text)
                assert text not in answer.text
                assert re.fullmatch("[A-Za-z0-9._-]{1,64}", answer.headers["X-Request-ID"])


@pytest.fixture
def ask(service: Service) -> Callable[..., Any]:
    """What the API answers to a GET."""

    def ask(path: str, **query: Any) -> Any:
        answer = service.send(f"GET /api/v1/{path}", {}, {}, query_string=query)
        assert answer.status_code == 200, answer.text
        return answer.json

    return ask


@pytest.mark.parametrize("text", TEXTS)
def test_a_model_with_such_a_name_is_found_under_precisely_that_name(
    service: Service, ask: Callable[..., Any], text: str
) -> None:
    name, version, other = f"{text} {uuid4()}", f"v {text}", f"{text} "
    first = {
        "model_name": name, "duration_ms": 1, "was_successful": True, "timestamp": "2025-06-09T12:00:00+00:00",
        "model_version": version, "error": text, "metadata": {text: text},
    }  # fmt: skip
    second, decoy = {**first, "duration_ms": 2}, {**first, "model_name": other}
    logged = service.send("POST /api/v1/predict-log", {}, {}, json=first)
    batch = service.send(
        "POST /api/v1/predict-logs", {HEADER: json.dumps([dropped_report(name)])}, {}, json=[second, decoy]
    )
    assert (logged.status_code, batch.status_code) == (200, 200)

    found = ask("predictions", model_name=name, model_version=version)
    assert [{key: each[key] for key in first} for each in found] == [second, first]
    counted = ask("stats", model_name=name, group_by="model_name,model_version")
    assert (counted["total_requests"], counted["average_duration_ms"], counted["dropped"]) == (2, 1.5, 3)
    assert [(group["model_name"], group["model_version"]) for group in counted["groups"]] == [(name, version)]
    points = ask("stats/timeseries", model_name=name, **{"from": "2025-06-09", "to": "2025-06-09"})["points"]
    assert sum(point["total_requests"] for point in points) == 2
    sides = ask("stats/compare", model_name=name, version_a=version, version_b=text)
    assert (sides["a"]["total_requests"], sides["b"]["total_requests"]) == (2, 0)
    (model,) = ask("models", model_name=name)
    assert (model["model_name"], model["model_version"]) == (name, version)

    for each in found:
        path = {"prediction_id": str(each["id"])}
        assert service.send("DELETE /api/v1/predictions/{prediction_id}", {}, path).status_code == 200
    assert ask("stats", model_name=name)["total_requests"] == 0
    assert ask("stats", model_name=other)["total_requests"] == 1


def test_pages_of_models_with_such_names_follow_each_other(service: Service) -> None:
    names = [f"page {text}" for text in TEXTS]
    for name in names:
        record = {"model_name": name, "duration_ms": 1, "was_successful": True}
        assert service.send("POST /api/v1/predict-log", {}, {}, json=record).status_code == 200
    found, query = [], {"model_name": names[:50], "limit": ["7"]}
    while query:
        answer = service.send("GET /api/v1/models", {}, {}, query_string=query)
        assert answer.status_code == 200, answer.text
        found += [model["model_name"] for model in answer.json]
        link = answer.headers.get("Link")
        query = parse_qs(urlsplit(link[1 : link.index(">")]).query) if link else {}
    assert found == sorted(names)
