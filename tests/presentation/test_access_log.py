"""Every request has an id that its answer and its line in the log carry; payloads and secrets stay out of the log."""

from __future__ import annotations

import io
import json
import logging
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from app import logging as service_logging
from conftest import Server, make_app
from support.scratch import url_where_nobody_listens

HEADER = "X-Request-ID"
SECRET = "s3cret-payload"
Start = Callable[..., tuple[FlaskClient, io.StringIO]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Make a service whose log, and all else that it prints, can be read."""
    log, echo = io.StringIO(), logging.getLogger("sqlalchemy.engine.Engine")
    with pytest.MonkeyPatch.context() as patch:

        def start(url: str, **settings: Any) -> tuple[FlaskClient, io.StringIO]:
            patch.setattr(sys, "stderr", log)
            patch.setattr(sys, "stdout", log)
            app: Flask = make_app(url, pool_size=1, **settings)
            return app.test_client(), log

        yield start
    echo.handlers.clear()
    service_logging.configure(debug=False)


def lines(log: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.getvalue().splitlines()]


def test_the_answer_and_one_line_of_the_log_have_the_same_id(start: Start) -> None:
    client, log = start(url_where_nobody_listens())
    ids = [client.get(path).headers[HEADER] for path in ("/health", "/nope", "/")]
    requests = [line for line in lines(log) if line["event"] == "request"]
    assert [line["request_id"] for line in requests] == ids
    assert len(set(ids)) == 3
    assert [line["status"] for line in requests] == [200, 404, 200]
    assert set(requests[0]) == {"event", "level", "timestamp", "request_id", "method", "route", "status", "duration_ms"}


@pytest.mark.parametrize("sent", ["a", "0197a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b", "A.b_c-9", "x" * 64])
def test_the_callers_id_is_kept_if_it_is_valid(start: Start, sent: str) -> None:
    client, log = start(url_where_nobody_listens())
    assert client.get("/health", headers={HEADER: sent}).headers[HEADER] == sent
    assert lines(log)[-1]["request_id"] == sent


@pytest.mark.parametrize("sent", ["", "x" * 65, "a b", "a,b", "é", '"', "a%0d%0ab", "../x", "{}"])
def test_any_other_is_replaced(start: Start, sent: str) -> None:
    client, log = start(url_where_nobody_listens())
    given = client.get("/health", headers={HEADER: sent}).headers[HEADER]
    assert re.fullmatch("[0-9a-f]{32}", given)
    assert lines(log)[-1]["request_id"] == given


def test_what_a_failure_logs_has_the_id_of_its_request(start: Start) -> None:
    client, log = start(url_where_nobody_listens())
    id = client.get("/api/v1/stats").headers[HEADER]
    assert {line["request_id"] for line in lines(log)} == {id}
    assert {line["event"] for line in lines(log)} > {"request"}, "and says that the storage was away"


def test_an_unforeseen_failure_is_answered_in_the_documented_shape_and_logged_without_its_text(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, log = start(url_where_nobody_listens())

    def fail(*_: Any) -> None:
        raise RuntimeError(SECRET)

    monkeypatch.setattr(client.application.extensions["predlog"].readiness, "check", fail)
    response = client.get("/ready")
    assert response.status_code == 500
    assert set(response.json) == {"code", "status", "message"}
    assert SECRET not in response.text + log.getvalue()
    error = next(line for line in lines(log) if line["level"] == "error")
    assert error["request_id"] == response.headers[HEADER]
    assert "RuntimeError" in json.dumps(error)


def exercise(client: FlaskClient) -> None:
    """Send secrets in all the places that calls have for them: kept, refused, not found, failed."""
    record = {
        "model_name": SECRET,
        "duration_ms": 1,
        "was_successful": False,
        "error": SECRET,
        "metadata": {SECRET: SECRET},
    }
    post = "/api/v1/predict-log"
    client.post(post, json=record)
    client.post(post, json={**record, "duration_ms": SECRET, SECRET: 1})
    client.post(post, data=SECRET, content_type="application/json")
    client.post(post, data=SECRET, content_type="text/plain")
    client.post(post, data=json.dumps(record)[:-1] + ', "metadata": {"a": 1e999}}', content_type="application/json")
    for path in (
        "/api/v1/predictions",
        "/api/v1/stats",
        "/api/v1/stats/timeseries",
        f"/{SECRET}",
        f"/api/v1/predictions/{SECRET}",
    ):
        client.get(f"{path}?model_name={SECRET}&cursor={SECRET}")
        client.get(f"{path}?model_name={SECRET}")
    client.get("/health", headers={"Authorization": f"Bearer {SECRET}", "Cookie": SECRET, "User-Agent": SECRET})
    client.get("/api/v1/stats", headers={"Authorization": f"Bearer {SECRET}"})


def test_payloads_and_parameters_never_reach_the_log(start: Start, server: Server) -> None:
    client, log = start(server.url)
    exercise(client)
    assert len(lines(log)) >= 17
    assert SECRET not in log.getvalue()


def test_nor_while_the_database_is_away_does_its_password(start: Start) -> None:
    client, log = start(url_where_nobody_listens())
    exercise(client)
    assert SECRET not in log.getvalue()
    assert "secret-password" not in log.getvalue()
    assert "Traceback" not in log.getvalue()


def test_debug_logs_the_statements_but_not_what_was_in_them(start: Start, server: Server) -> None:
    client, log = start(server.url, debug=True)
    exercise(client)
    assert "INSERT INTO prediction_log" in log.getvalue()
    assert SECRET not in log.getvalue()


def test_debug_logs_each_statement_once(start: Start, server: Server, model: str) -> None:
    client, log = start(server.url, debug=True)
    client.post("/api/v1/predict-log", json={"model_name": model, "duration_ms": 1, "was_successful": True})
    assert log.getvalue().count("INSERT INTO prediction_log") == 1


def test_without_debug_no_statement_is_logged(start: Start, server: Server, model: str) -> None:
    client, log = start(server.url)
    client.post("/api/v1/predict-log", json={"model_name": model, "duration_ms": 1, "was_successful": True})
    assert "INSERT" not in log.getvalue()
