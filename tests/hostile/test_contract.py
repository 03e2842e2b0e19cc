"""Whatever can be generated from the OpenAPI document gets a documented answer.

HOSTILE_CASES says how many requests to make at the least, HOSTILE_SEED which ones; by default there are fewer.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit
from zlib import crc32

import pytest
import schemathesis
import werkzeug
from flask import Flask, Response, request
from flask_migrate import upgrade
from google.rpc.status_pb2 import Status
from hypothesis import strategies as st
from schemathesis import Case, HookContext, SerializationContext
from schemathesis.core.failures import Failure
from schemathesis.engine import events, from_schema
from schemathesis.python import wsgi

from app.domain.keys import Scope
from app.presentation.schemas.dropped_header import HEADER
from app.presentation.services import EXTENSION
from config import KEYS, NO_AUTH
from conftest import Server, make_app
from support.scratch import empty_database

CASES = int(os.environ.get("HOSTILE_CASES", "0"))
SEED = int(os.environ.get("HOSTILE_SEED", "1"))
# Of each operation; the other requests follow from the document, and are some 1,300.
EXAMPLES = max(10, CASES // 9)
NOW = datetime.now(timezone.utc).isoformat()
METHODS = ("get", "post", "put", "patch", "delete")
LINKED = [
    ("POST /api/v1/predict-log", "get_prediction"),
    ("POST /api/v1/predict-log", "delete_prediction"),
    ("GET /api/v1/predictions", "get_prediction"),
    ("GET /api/v1/predictions", "delete_prediction"),
]

# Why a request is refused that is as the document wants it: what OpenAPI has no words for.
BEYOND_THE_DOCUMENT = re.compile(
    r"Must not be before 2000|Must not be more than 30 days ago|must not add up to more than"
    r"|Must not be more than five minutes in the future"
    r"|There is no such day in the calendar|there is no such moment in the calendar|Must lie within the years 1 to 9999"
    r"|Must not be after the end of the range|Given twice: |Missing: |Cannot stand beside |Must differ from "
    r"|into more than \d+ points|Too little of this range has been kept|Not a cursor that this service has given out"
    r"|Not the timestamp and the id of a prediction"
    r"|Must not contain NUL characters|Must be valid Unicode without lone surrogates"
    r"|Must be at most 4096 bytes of JSON|Must not be nested|Must hold finite numbers only"
    r"|A request_id that is not a UUIDv7 needs a timestamp"
    r"|Must be the beginning of a minute|Must not be more than `|Must be `duration_ms_max` if|Must be from 0 to `count`"
    r"|The response must not be before the request"
    r"|Must be from `count` times|Must be in ascending order|Must each have at least one|Must begin with the bin of"
)
# What nobody outside may read: the database's and the interpreter's own words.
INSIDE = re.compile(
    r"psycopg|sqlalchemy|Traceback|File \"/|prediction_(log|stats|latency|loss|dropped)|pg_catalog", re.IGNORECASE
)

# Pages that the service has told of.
CURSORS: list[str] = []

schemathesis.openapi.format(
    "time-zone", st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kathmandu", "America/St_Johns", "Pacific/Apia"])
)


@schemathesis.serializer("application/x-ndjson")
def as_lines(context: SerializationContext, value: Any) -> bytes:
    """The document can only say that it is text: half of what is generated becomes a model's name in a record."""
    if not isinstance(value, str):
        return json.dumps(value).encode()
    record = {"model_name": value[:200], "duration_ms": 1, "was_successful": True}
    return (json.dumps(record) if len(value) % 2 else value).encode(errors="surrogatepass")


@schemathesis.serializer("application/x-protobuf")
def as_protobuf(context: SerializationContext, value: Any) -> bytes:
    """The document cannot say what protobuf is: half of what is generated comes behind a request that is empty."""
    content = json.dumps(value, default=str).encode()
    return content if len(content) % 2 else b""


@schemathesis.check
def errors_have_one_shape(context: Any, response: schemathesis.Response, case: Case[Any]) -> None:
    assert re.fullmatch("[0-9a-f]{32}", response.headers["x-request-id"][0])
    if response.status_code >= 400 and case.method.upper() != "HEAD":
        body = decoded(response)
        if case.path == "/v1/traces" and response.status_code != 405:
            assert body.keys() == {"code", "message"}  # google.rpc.Status
        else:
            is_receipt = body.keys() - {"waiting", "passed_over"} == {"stored", "duplicates", "rejected"}
            assert is_receipt or body.keys() <= {"code", "status", "message", "errors"}
            assert body.get("code", response.status_code) == response.status_code
        assert not any(map(INSIDE.search, sentences(body))), response.text


def decoded(response: schemathesis.Response) -> Any:
    """An error, as JSON has it."""
    if response.headers["content-type"][0] != "application/x-protobuf":
        return response.json()
    status = Status.FromString(response.content)
    return {"code": status.code, "message": status.message}


class Client(werkzeug.Client):
    """A client of a WSGI application that leaves out what concerns sockets, and reads answers to their end."""

    def open(self, *args: Any, **kwargs: Any) -> Any:
        for name in ("max_redirects", "verify", "cert", "proxies"):
            kwargs.pop(name, None)
        # An answer that is not closed holds its memory, and after some large ones the service answers 503.
        return super().open(*args, **{**kwargs, "buffered": True})


def agree(context: HookContext, case: Case[Any], kwargs: dict[str, Any]) -> None:
    """Of each parameter the document says what it may be, not which of them go together: mend three of four."""
    query = case.query
    if (case.method.upper(), case.path) == ("DELETE", "/api/v1/predictions") and query:
        # A purge of all would leave nothing to the other operations.
        query.pop("from", None)
        query["to"] = "2000-01-02"
    if case.meta is None or not case.meta.generation.mode.is_positive or crc32(repr(query).encode()) % 4 == 0:
        return
    _make_recent(case)
    for name in ("from", "to"):
        if f"{name}_date" in query:
            query.pop(name, None)
    versions = "version_a" in query and "version_b" in query
    for name in ("from_a", "to_a", "from_b", "to_b") if versions else ("version_a", "version_b"):
        query.pop(name, None)
    if versions:
        query.pop("model_version", None)
    for start, end in (("from", "to"), ("from_date", "to_date"), ("from_a", "to_a"), ("from_b", "to_b")):
        if start in query and end in query and str(query[start]) > str(query[end]):
            query[start], query[end] = query[end], query[start]
    if query.pop("cursor", None) and CURSORS:
        query["cursor"] = CURSORS[-1]


def _make_recent(case: Case[Any]) -> None:
    """Reports are about the last days only, which the document has no words for."""
    with suppress(ValueError, TypeError, KeyError):
        reports = json.loads(case.headers[HEADER])
        case.headers[HEADER] = json.dumps([{**report, "timestamp": NOW} for report in reports])
    if case.path.endswith("/dropped") and isinstance(case.body, list):
        body: list[Any] = case.body
        with suppress(TypeError):
            case.body = [{**report, "timestamp": NOW} for report in body]


def keep_cursor(context: HookContext, case: Case[Any], response: schemathesis.Response) -> None:
    for link in response.headers.get("link", ()):
        CURSORS.extend(parse_qs(urlsplit(link[1 : link.index(">")]).query).get("cursor", []))


def is_failure(context: HookContext, failure: Failure, case: Case[Any], response: schemathesis.Response) -> bool:
    if "positive_data_acceptance" in failure.checks and response.status_code == 422:
        beyond = all(map(BEYOND_THE_DOCUMENT.search, sentences(decoded(response))))
        return not (beyond or case.media_type == "application/x-ndjson")
    if "positive_data_acceptance" in failure.checks and response.status_code == 400:
        return bool(case.media_type != "application/x-protobuf")
    # What OpenTelemetry and CloudEvents do not know is to be ignored, and so is what nobody reads.
    if case.path in ("/v1/traces", "/v1/cloudevents") and "negative_data_rejection" in failure.checks:
        return False
    # A batch that is too long is answered as a body that is too large; of other batches only invalid records are
    # refused.
    return not ("negative_data_rejection" in failure.checks and response.status_code in (207, 413))


@dataclass
class Attack:
    """All that schemathesis makes of the document, and what became of it."""

    app: Flask
    key: str | None
    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    cases: Counter[str] = field(default_factory=Counter)
    findings: dict[tuple[str, ...], str] = field(default_factory=dict)
    transitions: int = 0

    def run(self) -> None:
        self.app.after_request(self._count)
        schema = self._schema()
        schemathesis.hook("before_call")(agree)
        try:
            for event in from_schema(schema).execute():
                self._note(event)
        finally:
            schemathesis.hooks.unregister_all()

    def _schema(self) -> Any:
        document = self.app.test_client().get("/openapi.json").json
        document["servers"] = [{"url": "/"}]  # "." is relative to the document's address, which this one has not
        for path in document["paths"].values():
            for method in METHODS:
                # `default` documents any other answer, so every answer would pass.
                path.get(method, {"responses": {}})["responses"].pop("default", None)
        settings: dict[str, Any] = {
            "seed": SEED,
            "continue-on-failure": True,
            "generation": {"max-examples": EXAMPLES, "database": "none"},
            "checks": {"ignored_auth": {"enabled": self.key is not None}},
        }
        if self.key:
            settings["auth"] = {"openapi": {"apiKey": {"api_key": self.key}, "bearer": {"bearer": self.key}}}
        schema = schemathesis.openapi.from_dict(document, config=schemathesis.Config.from_dict(settings))
        schema.app = self.app
        schema.hook("filter_failure")(is_failure)
        schema.hook("after_call")(keep_cursor)
        return schema

    def _count(self, response: Response) -> Response:
        if request.url_rule:
            self.answers[f"{request.method} {request.url_rule.rule}", response.status_code] += 1
        return response

    def _note(self, event: events.EngineEvent) -> None:
        if isinstance(event, events.PhaseStarted) and event.payload:
            self.transitions = event.payload.transitions_total
        if isinstance(event, (events.NonFatalError, events.FatalError)):
            self.findings[type(event).__name__,] = repr(event)
        if isinstance(event, events.ScenarioFinished):
            self.cases[event.phase.value] += len(event.recorder.cases)
            for checks in event.recorder.checks.values():
                for info in (check.failure_info for check in checks if check.failure_info):
                    failure = info.failure
                    finding = f"{failure.message}\n{info.code_sample}"
                    self.findings.setdefault((event.phase.value, str(failure.operation), failure.title), finding)


def sentences(body: Any) -> Iterator[str]:
    """What an answer says is wrong, sentence by sentence."""
    if isinstance(body, str):
        yield body
    elif isinstance(body, list):
        for part in body:
            yield from sentences(part)
    elif isinstance(body, dict):
        for name, part in body.items():
            if name not in ("code", "status", "stored", "duplicates", "index"):
                yield from sentences(part)


@pytest.fixture(params=[KEYS, NO_AUTH] if CASES else [KEYS])
def attack(request: pytest.FixtureRequest, server: Server) -> Iterator[Callable[[], Attack]]:
    """An attack on a service with a database of its own, since it leaves much behind."""
    with empty_database(server) as url, pytest.MonkeyPatch.context() as patch:
        app = make_app(url, auth=request.param, pool_size=4 if server.concurrent else 1, max_new_models_per_day=0)
        with app.app_context():
            upgrade()
        key = app.extensions[EXTENSION].keys.create("attacker", Scope.ADMIN)[1] if request.param == KEYS else None
        patch.setattr(wsgi, "get_client", Client)
        yield lambda: Attack(app, key)


@pytest.mark.timeout(900 + CASES)
def test_whatever_is_generated_from_the_document_gets_a_documented_answer(
    attack: Callable[[], Attack], capfd: pytest.CaptureFixture[str]
) -> None:
    made = attack()
    made.run()
    log = capfd.readouterr().err
    with capfd.disabled():
        print(f"\n{sum(made.cases.values())} cases {dict(made.cases)}, {made.transitions} transitions")
    findings = "\n\n".join(f"{' / '.join(found)}\n{text}" for found, text in made.findings.items())
    assert not made.findings, findings
    assert sum(made.cases.values()) >= CASES
    # If no request succeeded, the attack tested nothing.
    for operation in operations(made.app):
        assert any(made.answers[operation, status] for status in (200, 207)), f"{operation} never succeeded"
    taken = sum(number for (_, status), number in made.answers.items() if status < 300)
    assert taken > sum(made.answers.values()) / 4, made.answers
    assert made.transitions >= len(LINKED)
    assert '"event": "unforeseen error"' not in log
    assert made.key is None or made.key not in log


def operations(app: Flask) -> Iterator[str]:
    """The operations of the document, as the routes name them."""
    for path, item in app.test_client().get("/openapi.json").json["paths"].items():
        for method in set(item) & set(METHODS):
            yield f"{method.upper()} {path.replace('{', '<').replace('}', '>')}"


def test_an_id_that_was_given_out_leads_to_its_record(attack: Callable[[], Attack]) -> None:
    paths = cast(dict[str, Any], attack().app.test_client().get("/openapi.json").json)["paths"]
    for operation, target in LINKED:
        method, path = operation.lower().split()
        assert paths[path][method]["responses"]["200"]["links"][target]["operationId"] == target
