"""GET /openapi.json"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient
from jsonschema import Draft4Validator, FormatChecker
from openapi_spec_validator import validate

METHODS = ("get", "post", "put", "patch", "delete")
OPEN_TO_ALL = {"/", "/health"}  # they take nothing and ask nobody: there is nothing to be refused

Operation = tuple[str, dict[str, Any]]


@pytest.fixture(scope="module")
def document(away: FlaskClient) -> dict[str, Any]:
    response = away.get("/openapi.json")
    assert response.status_code == 200
    return dict(response.json)


@pytest.fixture(scope="module")
def operations(document: dict[str, Any]) -> list[Operation]:
    return [
        (f"{method.upper()} {path}", operation)
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if method in METHODS
    ]


def test_the_document_is_valid(document: dict[str, Any]) -> None:
    validate(document)


def test_every_route_of_the_service_is_described(away: FlaskClient, operations: list[Operation]) -> None:
    served = {
        f"{method} {rule.rule.replace('<', '{').replace('>', '}')}"
        for rule in away.application.url_map.iter_rules()
        for method in (rule.methods or set()) & {"GET", "POST", "PUT", "PATCH", "DELETE"}
    }
    pages = {"GET /docs", "GET /redoc", "GET /openapi.json", "GET /docs/assets/{name}"}
    pages |= {name for name in served if name.startswith("GET /dashboard")}
    assert {name for name, _ in operations} == served - pages


def test_every_operation_has_a_summary_of_one_sentence(operations: list[Operation]) -> None:
    for name, operation in operations:
        assert operation["summary"].endswith("."), name
        assert len(operation["summary"]) < 120, name


def test_every_operation_shows_an_example_of_its_answer(operations: list[Operation]) -> None:
    for name, operation in operations:
        assert any("example" in media for status, media in _media(operation) if status < "300"), name


def test_every_operation_tells_how_it_may_fail(operations: list[Operation]) -> None:
    for name, operation in operations:
        errors = {status for status in operation["responses"] if status[0] in "45"}
        path = name.split()[1]
        assert path in OPEN_TO_ALL or "503" in errors, name
        assert "422" in errors or not (operation.get("parameters") or "requestBody" in operation), name
        if "requestBody" in operation:
            assert {"400", "413", "415"} <= errors, name
        if "prediction_id" in path:
            assert "404" in errors, name
        assert all("example" in media for status, media in _media(operation) if status in errors), name


def test_every_body_has_an_example(operations: list[Operation]) -> None:
    for name, operation in operations:
        for media in operation.get("requestBody", {}).get("content", {}).values():
            assert "example" in media, name


def test_every_parameter_says_what_it_is_for(operations: list[Operation]) -> None:
    for name, operation in operations:
        for parameter in operation.get("parameters", ()):
            assert parameter.get("description"), (name, parameter["name"])


def test_the_names_of_the_errors_fields_are_described(document: dict[str, Any]) -> None:
    properties = document["components"]["schemas"]["Error"]["properties"]
    assert set(properties) == {"code", "status", "message", "errors"}


def test_every_example_fits_its_schema(document: dict[str, Any], operations: list[Operation]) -> None:
    checked = 0
    for name, operation in operations:
        bodies = [("body", media) for media in operation.get("requestBody", {}).get("content", {}).values()]
        for status, media in [*bodies, *_media(operation)]:
            if "example" in media and "schema" in media:
                problems = [
                    error.message for error in _validator(document, media["schema"]).iter_errors(media["example"])
                ]
                assert not problems, (name, status, problems)
                checked += 1
    assert checked > 10


def test_every_example_and_default_of_a_parameter_fits_its_schema(
    document: dict[str, Any], operations: list[Operation]
) -> None:
    checked = 0
    for name, operation in operations:
        for parameter in operation.get("parameters", ()):
            schema = parameter.get("schema", {})
            for value in [schema[key] for key in ("example", "default") if key in schema]:
                problems = [error.message for error in _validator(document, schema).iter_errors(value)]
                assert not problems, (name, parameter["name"], problems)
                checked += 1
    assert checked > 5


def test_real_answers_fit_their_schemas(
    client: FlaskClient, log: Any, model: str, document: dict[str, Any], operations: list[Operation]
) -> None:
    stored = log(model_version="1", metadata={"a": 1}, error="no", request_id="0197a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b")
    asked = {"model_name": model}
    answers = {
        "GET /": client.get("/"),
        "GET /health": client.get("/health"),
        "GET /ready": client.get("/ready"),
        "GET /api/v1/predictions": client.get("/api/v1/predictions", query_string=asked),
        "GET /api/v1/predictions/{prediction_id}": client.get(f"/api/v1/predictions/{stored['id']}"),
        "GET /api/v1/stats": client.get(
            "/api/v1/stats", query_string={**asked, "group_by": "model_name,model_version"}
        ),
        "GET /api/v1/stats/timeseries": client.get("/api/v1/stats/timeseries", query_string={**asked, "under_ms": 5}),
        "GET /api/v1/alerts": client.get("/api/v1/alerts"),
        "GET /api/v1/alerts/history": client.get("/api/v1/alerts/history"),
        "GET /api/v1/stats/histogram": client.get("/api/v1/stats/histogram", query_string={**asked, "bucket": "auto"}),
    }
    by_name = dict(operations)
    for name, answer in answers.items():
        schema = by_name[name]["responses"]["200"]["content"]["application/json"]["schema"]
        problems = [error.message for error in _validator(document, schema).iter_errors(answer.json)]
        assert not problems, (name, problems)
    error = {"$ref": "#/components/schemas/Error"}
    for answer in (client.get("/nope"), client.get("/api/v1/stats?x=1"), client.post("/api/v1/predict-log", data="{")):
        assert not list(_validator(document, error).iter_errors(answer.json))


def test_an_empty_answer_fits_its_schema_too(
    client: FlaskClient, model: str, document: dict[str, Any], operations: list[Operation]
) -> None:
    by_name = dict(operations)
    for path in ("/api/v1/stats", "/api/v1/stats/timeseries", "/api/v1/stats/histogram"):
        schema = by_name[f"GET {path}"]["responses"]["200"]["content"]["application/json"]["schema"]
        answer = client.get(path, query_string={"model_name": model}).json
        problems = [error.message for error in _validator(document, schema).iter_errors(answer)]
        assert not problems, (path, problems)


def test_the_description_is_for_people_who_call_the_service(document: dict[str, Any]) -> None:
    description = document["info"]["description"]
    assert "prediction log" in description
    assert "create_app" not in description, "how the code is laid out is nothing to them"


def _media(operation: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for status, response in operation["responses"].items():
        for media in response.get("content", {}).values():
            yield status, media


def _validator(document: dict[str, Any], schema: dict[str, Any]) -> Draft4Validator:
    """OpenAPI 3.0 describes with JSON Schema's draft 4, but says `nullable` for null."""
    return Draft4Validator(
        _with_nulls({**schema, "components": document["components"]}), format_checker=FormatChecker()
    )


def _with_nulls(node: Any) -> Any:
    if isinstance(node, list):
        return [_with_nulls(part) for part in node]
    if not isinstance(node, dict):
        return node
    plain = {key: _with_nulls(value) for key, value in node.items() if key != "nullable"}
    return {"anyOf": [plain, {"type": "null"}]} if node.get("nullable") is True else plain
