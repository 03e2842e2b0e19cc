"""Nonsense of every kind: a 4xx in the documented shape that names the mistake, and no internal message."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Callable
from http import HTTPStatus
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import pytest
from flask.testing import FlaskClient

from conftest import Server, make_app

LOG = "/api/v1/predict-log"
LIST = "/api/v1/predictions"
STATS = "/api/v1/stats"
SERIES = "/api/v1/stats/timeseries"
GOOD = {"model_name": "nonsense", "duration_ms": 1, "was_successful": True}
FROM_INSIDE = re.compile(
    r"traceback|psycopg2|sqlalchemy|marshmallow|werkzeug|SELECT |INSERT |prediction_log\b|\.py\b|Error\(|0x[0-9a-f]{6}",
    re.IGNORECASE,
)


@pytest.fixture(scope="module")
def door(servers: Callable[[str], Server]) -> FlaskClient:
    """A client for requests that are refused before they reach the database, with any engine."""
    return make_app(servers("plain").url).test_client()


def assert_documented(response: Any, status: int | None = None) -> dict[str, Any]:
    """The shape of every error; returns what it says about fields, by the part of the request."""
    assert 400 <= response.status_code < 500, response.text
    assert status in (None, response.status_code), response.text
    assert response.mimetype == "application/json"
    assert response.headers["X-Request-ID"]
    body = response.json
    assert {"code", "status"} < set(body) <= {"code", "status", "message", "errors"}
    assert body["code"] == response.status_code
    assert body["status"] == HTTPStatus(response.status_code).phrase
    assert body.get("message") or body.get("errors")
    assert not FROM_INSIDE.search(response.text), response.text
    return dict(body.get("errors") or {})


def body_with(**fields: Any) -> str:
    return json.dumps({**GOOD, **fields})


def raw(field: str, json_text: str) -> str:
    """A good record in which one field is this JSON text."""
    rest = {name: value for name, value in GOOD.items() if name != field}
    return f'{json.dumps(rest)[:-1]}, "{field}": {json_text}}}'


FIELDS: dict[str, list[Any]] = {
    "model_name": ["", "x" * 201, None, 1, True, ["m"], {"m": 1}, "a\x00b"],
    "duration_ms": ["1", "", None, True, [], {}, -1, -1e-9, 1.1e292],
    "was_successful": ["true", "yes", 1, 0, None, [], {}],
    "timestamp": [
        "", "now", "2025-06-09", "2025-06-09T12", "2025-02-29T00:00:00Z", "2025-06-09T25:00:00Z", "20250609T120000Z",
        "2025-06-09T12:00:00+99:00", "2025-06-09T12:00:00+05:99", "0000-01-01T00:00:00Z", "10000-01-01T00:00:00Z",
        "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59.9999999Z", "9999-12-31T23:59:59Z", "1999-12-31T23:59:59Z",
        1749470400, True, [], {}, "2025-06-09T12:00:00Z\x00",
    ],
    "model_version": ["", "x" * 201, 1, [], "\x00"],
    "error": ["x" * 4097, 1, [], {}, "\x00"],
    "metadata": [
        "{}", 1, [], [{}], {"k": "x" * 4096}, {"k": "\x00"}, {"\x00": 1},
        {"a": [{"b": ["\x00"]}]}, {"a": {"b\x00": 1}},
    ],
    "request_id": ["", "x", "12345678", 1, [], {}, "\x00", "12345678-1234-1234-1234-12345678901g"],
}  # fmt: skip


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in FIELDS.items() for value in values])
def test_a_field_that_cannot_be_used_is_named(door: FlaskClient, field: str, value: Any) -> None:
    response = door.post(LOG, data=body_with(**{field: value}), content_type="application/json")
    assert set(assert_documented(response, 422)["json"]) == {field}


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("duration_ms", "1e999"), ("duration_ms", "-1e999"), ("duration_ms", "9" * 400),
        ("metadata", '{"a": 1e999}'), ("metadata", '{"a": [[-1e400]]}'),
        *((field, r'"\ud800"') for field in ("model_name", "model_version", "error", "timestamp", "request_id")),
        ("error", r'"\udc00\ud800"'), ("error", r'"a\u0000b"'), ("model_name", r'"\u0000"'),
        ("metadata", r'{"\udfff": 1}'), ("metadata", r'{"a": {"b": ["\ud83d"]}}'),
        ("metadata", r'{"a": {"\u0000": 1}}'),
        ("metadata", '{"a":' + "[" * 600 + r'"\u0000"' + "]" * 600 + "}"),
    ],
    ids=lambda value: value[:40],
)  # fmt: skip
def test_a_field_that_only_json_can_write_is_named(client: FlaskClient, field: str, text: str) -> None:
    response = client.post(LOG, data=raw(field, text), content_type="application/json")
    assert set(assert_documented(response, 422)["json"]) == {field}


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "{", "}", "[", '{"model_name"}', "{'model_name': 'm'}", '{"a": 1,}', "{} {}", "nul", "// {}", "\x00",
        raw("duration_ms", "NaN"), raw("duration_ms", "Infinity"), raw("duration_ms", "-Infinity"),
        raw("metadata", '{"a": NaN}'), raw("duration_ms", "01"), raw("duration_ms", "0x1"), raw("duration_ms", "+1"),
        raw("model_name", '"\n"'), raw("model_name", r'"\x41"'), "[" * 50_000, '{"a":' * 50_000,
        "\ufeff\ufeff" + body_with(),
    ],
    ids=lambda text: text[-40:],
)  # fmt: skip
def test_a_body_that_is_no_json_is_said_to_be_none(door: FlaskClient, text: str) -> None:
    assert_documented(door.post(LOG, data=text.encode(), content_type="application/json"), 400)


@pytest.mark.parametrize(
    "body", [b"\xff", b'{"model_name": "\xff"}', body_with().encode("utf-16"), b"\x1f\x8b\x08\x00", b"\x00"]
)
def test_a_body_that_is_not_utf_8_is_said_to_be_no_json(door: FlaskClient, body: bytes) -> None:
    assert_documented(door.post(LOG, data=body, content_type="application/json"), 400)


@pytest.mark.parametrize("text", ["null", "true", "1", '"text"', "[]", "[{}]", f"[{body_with()}]"])
def test_json_that_is_no_object_is_refused(door: FlaskClient, text: str) -> None:
    assert_documented(door.post(LOG, data=text, content_type="application/json"), 422)


def test_metadata_of_any_depth_is_kept_or_refused(client: FlaskClient) -> None:
    # Python's own limits lie somewhere below a thousand; MAX_METADATA_BYTES allows two thousand.
    for depth in (100, 500, *range(880, 1010), 1500, 2010, 5000):
        text = raw("metadata", '{"a":' + "[" * depth + "]" * depth + "}")
        response = client.post(LOG, data=text, content_type="application/json")
        if response.status_code != 200:
            assert_documented(response)
    for path in (f"{LIST}?model_name=nonsense&limit=1000", f"{STATS}?model_name=nonsense"):
        assert client.get(path).status_code == 200, "what was kept can be read"


@pytest.mark.parametrize("digits", [400, 4000, 4300, 5000])
def test_integers_of_any_length_are_kept_or_refused(client: FlaskClient, digits: int) -> None:
    response = client.post(LOG, data=raw("metadata", '{"a": ' + "9" * digits + "}"), content_type="application/json")
    if response.status_code == 200:
        assert client.get(f"{LIST}/{response.json['id']}").json["metadata"] == {"a": 10**digits - 1}
    else:
        assert_documented(response)


@pytest.mark.parametrize(
    "name", ["id", "Model_Name", "nope", "", "model_name ", "\x00", "é", "__class__", "x" * 10_000]
)
def test_a_field_that_nobody_knows_is_named(door: FlaskClient, name: str) -> None:
    response = door.post(LOG, data=body_with(**{name: 1}), content_type="application/json")
    assert set(assert_documented(response, 422)["json"]) == {name}


def test_a_field_whose_name_is_no_text_is_refused(door: FlaskClient) -> None:
    body = body_with()[:-1] + r', "\ud800": 1}'
    assert_documented(door.post(LOG, data=body, content_type="application/json"))


@pytest.mark.parametrize("field", list(GOOD))
def test_a_field_that_is_missing_is_named(door: FlaskClient, field: str) -> None:
    body = {name: value for name, value in GOOD.items() if name != field}
    assert set(assert_documented(door.post(LOG, json=body), 422)["json"]) == {field}


def test_all_that_is_wrong_is_said_at_once(door: FlaskClient) -> None:
    response = door.post(LOG, json={"model_name": "", "duration_ms": -1, "error": 5, "nope": 1})
    assert set(assert_documented(response, 422)["json"]) == {
        "model_name",
        "duration_ms",
        "was_successful",
        "error",
        "nope",
    }


@pytest.mark.parametrize(
    "content_type",
    [None, "", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/xml"],
)
def test_a_content_type_other_than_json_is_refused(door: FlaskClient, content_type: str | None) -> None:
    assert_documented(door.post(LOG, data=body_with(), content_type=content_type), 415)


def test_a_body_over_the_limit_is_refused(servers: Callable[[str], Server]) -> None:
    small = make_app(servers("plain").url, max_body_bytes=1024, pool_size=1).test_client()
    assert small.post(LOG, data=body_with(), content_type="application/json").status_code == 200
    assert_documented(small.post(LOG, data=body_with() + " " * 1024, content_type="application/json"), 413)


@pytest.mark.parametrize("size", [0, 900, 1024, 1025, 5000, 200_000])
def test_a_body_whose_length_is_not_said_is_held_to_the_limit(servers: Callable[[str], Server], size: int) -> None:
    small = make_app(servers("plain").url, max_body_bytes=1024, pool_size=1).test_client()
    body = body_with().encode()
    response = small.post(
        LOG,
        input_stream=io.BytesIO(body + b" " * (size - len(body))),
        content_type="application/json",
        environ_overrides={"CONTENT_LENGTH": "", "wsgi.input_terminated": True},  # as servers say of a chunked body
    )
    if size <= 1024:
        assert response.status_code == 200, response.text
    else:
        assert_documented(response, 413)


IDS = [
    "0", "-1", str(2**63), "9" * 40, "9" * 5000, "one", "1.0", "1e3", "0x1", "%00", "%ff", "%F0%9F%98%80", "1%2F2",
    "%201", "1%20", "1_0", "+1", "%EF%BC%91", "null", "NaN", "-0", "1;2", "1'--", "%2e%2e",
]  # fmt: skip


@pytest.mark.parametrize("prediction_id", IDS, ids=lambda prediction_id: prediction_id[:40])
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_an_id_that_cannot_be_one_is_refused(client: FlaskClient, method: str, prediction_id: str) -> None:
    response = client.open(f"{LIST}/{prediction_id}", method=method)
    errors = assert_documented(response)
    assert response.status_code == 404 or set(errors["path"]) == {"prediction_id"}
    assert "There is no prediction with id" not in response.text, "it was taken for a number"


def cursor(*parts: Any) -> str:
    return written(json.dumps(parts).encode())


def written(text: bytes) -> str:
    return base64.urlsafe_b64encode(text).decode().rstrip("=")


NOON = "2025-06-09T12:00:00Z"
GIVEN_OUT: dict[str, list[Any]] = {
    LIST: [NOON, 1],
    "/api/v1/models": ["m", ""],
    "/api/v1/errors": [1, "m", "5d41402abc4b2a76b9719d911017c592"],
    "/api/v1/stats/models": ["m"],
}
NO_CURSOR = [
    "%00", "%ff", "x", "====", "é", "null", "???", "a" * 100_000, written(b"[" * 30_000), written(b'{"a": 1, "b": 2}'),
    written(b"\xff\xfe"), written(b"NaN"), written(b'"name"'), cursor(), cursor(1, NOON), cursor(*range(100)),
    written(b"9" * 5000), written(b"m"), written(b'["\xed\xa0\x80", 1]'), written(b'["m", 1'),
]  # fmt: skip
NO_TEXT: list[Any] = [None, True, 1, 1.5, [], ["m"], {}, {"m": 1}, "\0", "m\0", "\ud800", "m\udfff"]
NO_NUMBER: list[Any] = [
    None,
    True,
    0,
    -1,
    2**63,
    10**300,
    1.0,
    1.5,
    1e300,
    float("nan"),
    float("inf"),
    [1],
    {},
    "1",
    "",
]
CURSORS = [
    *((path, text) for path in GIVEN_OUT for text in NO_CURSOR),
    *((path, cursor(*parts[:-1])) for path, parts in GIVEN_OUT.items()),
    *((path, cursor(*parts, more)) for path, parts in GIVEN_OUT.items() for more in (1, "m", None)),
    *((path, cursor(parts)) for path, parts in GIVEN_OUT.items()),
    *((path, cursor(*parts[:place], bad, *parts[place + 1 :]))
      for path, parts in GIVEN_OUT.items() for place, part in enumerate(parts)
      for bad in (NO_TEXT if isinstance(part, str) else NO_NUMBER)),
    *((LIST, cursor(bad, 1)) for bad in ("", "x", "2025-06-09", "2025-02-29T12:00:00Z", "0001-01-01T00:00:00+23:59")),
    (LIST, written(b'["' + NOON.encode() + b'", ' + b"9" * 5000 + b"]")),
]  # fmt: skip


@pytest.mark.parametrize(("path", "text"), CURSORS, ids=lambda text: text[:40])
def test_a_cursor_that_was_not_given_out_is_refused(client: FlaskClient, path: str, text: str) -> None:
    assert set(assert_documented(client.get(f"{path}?cursor={text}"), 422)["query"]) == {"cursor"}


@pytest.mark.parametrize(("path", "parts"), GIVEN_OUT.items())
def test_a_cursor_as_the_service_gives_it_out_is_taken(client: FlaskClient, path: str, parts: list[Any]) -> None:
    assert client.get(f"{path}?cursor={cursor(*parts)}").status_code == 200


BOUNDS = ["", "x", "2025-6-9", "2025-02-29", "0000-01-01", "10000-01-01", "2025-06-09T25:00Z",
          "2025-06-09T12:00:00%20%2002:00", "%00", "1749470400", "2025-06-09%00", "%ff"]  # fmt: skip
QUERIES: list[tuple[str, str, str]] = [
    *((LIST, "limit", v) for v in (
        "0", "-1", "1001", "x", "1.5", "", "9" * 30, "9" * 5000, "1_0", "%201", "%EF%BC%91", "true")),
    *((LIST, "min_duration_ms", v) for v in (
        "-1", "x", "", "nan", "inf", "-inf", "1e999", "1_0", "%EF%BC%91", "true", "0x1")),
    *((LIST, "was_successful", v) for v in ("", "maybe", "2", "%00", "null")),
    *((path, name, v) for path in (LIST, STATS, SERIES) for name in ("from", "to") for v in BOUNDS),
    *((STATS, name, v) for name in ("from_date", "to_date") for v in ("", "x", "2025-02-29", "%00")),
    *((path, "model_name", v) for path in (LIST, STATS, SERIES) for v in ("", "%00", "x" * 201, "%ff", "%ED%A0%80")),
    *((path, "model_version", v) for path in (LIST, STATS, SERIES) for v in ("%00", "x" * 201, "%ff", "%ED%A0%80")),
    *((path, "timezone", v) for path in (LIST, STATS, SERIES) for v in (
        "", "Mars/Olympus", "../../etc/passwd", "/etc/passwd", "Europe", ".", "%00", "%ff", "x" * 5000, "UTC%20",
        "zone.tab")),
    *((STATS, "percentiles", v) for v in ("x", "101", "-1", "nan", "inf", ",", "50,", "5_0", ",".join(["1"] * 21))),
    *((STATS, "group_by", v) for v in ("x", "model_name,x", "model_name,", "%00", "error")),
    *((SERIES, "bucket", v) for v in ("", "x", "2h", "0", "1H", "%00")),
    *((path, name, "1") for path in (LIST, STATS, SERIES) for name in (
        "nope", "%00", "%ff", "Limit", "model_name%20", "x" * 9000)),
    (STATS, "limit", "1"), (SERIES, "group_by", "model_name"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "name", "value"), QUERIES, ids=lambda text: text[:40])
def test_a_parameter_that_cannot_be_used_is_named(door: FlaskClient, path: str, name: str, value: str) -> None:
    errors = assert_documented(door.get(f"{path}?{name}={value}"), 422)
    (named,) = errors["query"]
    assert quote(named, safe="%").upper() == quote(name, safe="%").upper()


@pytest.mark.parametrize("value", ["1_0", "%201", "1%20", "%EF%BC%91", "%D9%A1", "0x1", "0b1", "nan", "inf", "true"])
def test_every_number_of_a_query_string_is_read_as_people_read_it(door: FlaskClient, value: str) -> None:
    numbers = [
        (path, parameter["name"])
        for path, operations in door.get("/openapi.json").json["paths"].items()
        for parameter in operations.get("get", {}).get("parameters", [])
        if parameter.get("in") == "query"
        and parameter["schema"].get("items", parameter["schema"]).get("type") in ("integer", "number")
    ]
    assert {(LIST, "limit"), ("/api/v1/stats/compare", "confidence"), (STATS, "percentiles")} < set(numbers)
    for path, name in numbers:
        assert set(assert_documented(door.get(f"{path}?{name}={value}"), 422)["query"]) == {name}


@pytest.mark.parametrize(
    ("path", "first", "second"),
    [
        *((LIST, f"{name}={value}", f"{name}={value}") for name, value in (
            ("model_name", "a"), ("model_version", "a"), ("was_successful", "true"), ("from", "2025-06-01"),
            ("to", "2025-06-01"), ("min_duration_ms", "1"), ("limit", "1"), ("cursor", cursor(NOON, 1)))),
        *((path, f"{name}={value}", f"{name}={value}") for path in (STATS, SERIES) for name, value in (
            ("model_version", "a"), ("from", "2025-06-01"), ("to", "2025-06-01"), ("from_date", "2025-06-01"),
            ("to_date", "2025-06-01"), ("timezone", "UTC"))),
        (SERIES, "bucket=1h", "bucket=1h"),
    ],
)  # fmt: skip
def test_a_parameter_that_is_given_twice_is_refused(door: FlaskClient, path: str, first: str, second: str) -> None:
    errors = assert_documented(door.get(f"{path}?{first}&{second}"), 422)
    assert set(errors["query"]) == {first.split("=")[0]}


@pytest.mark.parametrize(
    ("first", "second", "count"),
    [("percentiles=50", "percentiles=90", 2), ("group_by=model_name", "group_by=model_version", 2)],
)
def test_a_list_that_is_given_in_two_parts_is_taken_whole_or_refused(
    client: FlaskClient, first: str, second: str, count: int
) -> None:
    name = f"parts-{uuid4().hex}"
    client.post(LOG, json={**GOOD, "model_name": name})
    response = client.get(f"{STATS}?model_name={name}&{first}&{second}")
    if response.status_code == 200:
        answer = response.json
        taken = (
            answer["percentiles"]
            if "percentiles" in first
            else set(answer["groups"][0]) & {"model_name", "model_version"}
        )
        assert len(taken) == count, "nothing was left out in silence"
    else:
        assert_documented(response, 422)


@pytest.mark.parametrize("path", [LIST, STATS, SERIES])
@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("2025-06-09T12:00:00Z", "2025-06-09T11:59:59.999999Z"),
        ("2025-06-09T12:00:00%2B02:00", "2025-06-09T09:59:59Z"),
        ("2025-06-10", "2025-06-08"),
        ("2025-06-10", "2025-06-09"),
        ("2025-06-10T00:00:00Z", "2025-06-08"),
        ("9999-12-31", "0001-01-01"),
    ],
)
def test_a_range_that_ends_before_it_begins_is_refused(door: FlaskClient, path: str, start: str, end: str) -> None:
    errors = assert_documented(door.get(f"{path}?from={start}&to={end}"), 422)
    assert set(errors["query"]) <= {"from", "to"}


def test_a_range_that_begins_in_the_future_is_refused(door: FlaskClient) -> None:
    assert set(assert_documented(door.get(f"{STATS}?from=2999-01-01"), 422)["query"]) == {"from"}


ENDS_OF_THE_CALENDAR = [
    "from=0001-01-01", "to=0001-01-01", "from=0001-01-01T00:00:00Z&to=0001-01-01T00:00:00Z", "to=0001-01-01T00:00:00Z",
    "from=0001-01-01&timezone=Asia/Tokyo", "from=0001-01-01&timezone=America/New_York",
    "from=0001-01-01T00:00:00Z&to=0001-01-01T02:00:00Z&timezone=America/New_York",
    "to=9999-12-30", "to=9999-12-31", "to=9999-12-31T23:59:59.999999Z",
    "from=9999-12-31&to=9999-12-31T23:59:59.999999Z",
    "from=9999-12-31T22:00:00Z&to=9999-12-31T23:30:00Z",
    "from=9999-12-31T20:00:00Z&to=9999-12-31T23:59:59Z&timezone=Asia/Tokyo",
    "from=9999-12-30&to=9999-12-30&timezone=America/New_York", "from=0001-01-01&to=9999-12-30",
]  # fmt: skip


@pytest.mark.parametrize("query", ENDS_OF_THE_CALENDAR)
@pytest.mark.parametrize(
    "path",
    [LIST, STATS, f"{SERIES}?bucket=1d&", f"{SERIES}?bucket=1h&", f"{SERIES}?bucket=6h&", SERIES],
    ids=lambda p: p[8:],
)
def test_the_ends_of_the_calendar_are_answered_or_refused(client: FlaskClient, path: str, query: str) -> None:
    response = client.get(f"{path}{'' if '?' in path else '?'}{query}")
    if response.status_code != 200:
        assert_documented(response, 422)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        (method, path, allowed)
        for path, allowed in (
            ("/", {"GET"}), ("/health", {"GET"}), ("/ready", {"GET"}), (LOG, {"POST"}), (LIST, {"GET", "DELETE"}),
            (f"{LIST}/1", {"GET", "DELETE"}), (STATS, {"GET"}), (SERIES, {"GET"}), ("/openapi.json", {"GET"}),
        )
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "TRACE", "NONSENSE")
        if method not in allowed
    ],
)  # fmt: skip
def test_a_method_that_does_not_fit_is_refused_with_those_that_do(
    door: FlaskClient, method: str, path: str, allowed: set[str]
) -> None:
    response = door.open(path, method=method)
    assert_documented(response, 405)
    assert allowed <= {name.strip() for name in response.headers["Allow"].split(",")}


@pytest.mark.parametrize("path", ["/", "/health", LIST, f"{LIST}/1", STATS, LOG])
def test_options_are_answered_with_the_methods(door: FlaskClient, path: str) -> None:
    response = door.options(path)
    assert response.status_code == 200
    assert "OPTIONS" in response.headers["Allow"]
    assert response.headers["X-Request-ID"]


@pytest.mark.parametrize("path", ["/", "/health", "/ready", LIST, STATS, SERIES, "/openapi.json", "/nope", f"{LIST}/x"])
def test_head_says_what_get_would_without_a_body(door: FlaskClient, path: str) -> None:
    head, get = door.head(path), door.get(path)
    assert (head.status_code, head.mimetype, head.data) == (get.status_code, get.mimetype, b"")


@pytest.mark.parametrize(
    "path",
    ["/nope", "/api", "/api/v1", "/api/v1/", "/api/v2/stats", f"{LIST}/", f"{LIST}/1/2", "/health/", "/%00",
     "/%ff", "/é", "/" + "x" * 100_000, "/docs/assets/nope.js", "/docs/assets/..%2f..%2fsetup.cfg",
     "/../../etc/passwd", "/static/x"],
    ids=lambda path: path[:40],
)  # fmt: skip
def test_a_page_that_does_not_exist_is_not_found(door: FlaskClient, path: str) -> None:
    assert_documented(door.get(path), 404)


@pytest.mark.parametrize("name", ["x" * 100_000, "é" * 20_000])
def test_very_long_addresses_are_refused(door: FlaskClient, name: str) -> None:
    for path in (LIST, STATS):
        assert_documented(door.get(f"{path}?model_name={quote(name)}"), 422)
        assert_documented(door.get(f"{path}?{quote(name)}=1"), 422)


@pytest.mark.parametrize(
    "header", ["Host", "Accept", "Accept-Language", "X-Request-ID", "If-None-Match", "Range", "Cookie"]
)
def test_odd_headers_do_no_harm(door: FlaskClient, header: str) -> None:
    for value in ("", "\x7f", "é", "x" * 10_000, "%s%n", "'\"<>"):
        response = door.get("/health", headers={header: value})
        assert response.status_code < 500, response.text
        assert response.headers["X-Request-ID"]
