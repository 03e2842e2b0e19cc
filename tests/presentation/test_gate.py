"""So many requests at once, and so much memory for what they bring; whatever happens, both are given back."""

from __future__ import annotations

import gzip
import io
import json
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import Client

from app.presentation.gate import VISIT, Gate, Visit
from conftest import Server, make_app
from figures import Figures

PATIENCE = 60.0
BATCH = "/api/v1/predict-logs"
RECORD = {"model_name": "gate", "duration_ms": 1, "was_successful": True}


class Trickle(io.RawIOBase):
    """A body that goes on when it is told to."""

    def __init__(self, body: bytes, asked: threading.Event, go_on: threading.Event) -> None:
        self._body = io.BytesIO(body)
        self._asked = asked
        self._go_on = go_on

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._asked.set()
        assert self._go_on.wait(PATIENCE)
        chunk = self._body.read(len(buffer))
        buffer[: len(chunk)] = chunk
        return len(chunk)


def arriving(path: str, stream: Any, length: int) -> dict[str, Any]:
    """A POST whose body comes from a stream, as a server hands it on."""
    environ = {
        "wsgi.input": stream, "wsgi.input_terminated": True,
        "CONTENT_LENGTH": str(length), "CONTENT_TYPE": "application/json",
    }  # fmt: skip
    return {"path": path, "method": "POST", "environ_overrides": environ}


def small(servers: Callable[[str], Server], **settings: Any) -> FlaskClient:
    return make_app(servers("plain").url, threads=1, **settings).test_client()


def in_background(call: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(call()))
    thread.start()
    return thread, answers


def test_no_more_requests_than_there_are_places_are_worked_on_at_once() -> None:
    at_once, most, lock = 0, 0, threading.Lock()

    def application(environ: Any, start_response: Any) -> Iterable[bytes]:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        time.sleep(0.02)
        with lock:
            at_once -= 1
        start_response("200 OK", [])
        return [b"done"]

    client = Client(Gate(application, places=3, memory=0, patience_s=1))
    started = [in_background(lambda: client.get("/").data) for _ in range(20)]
    for thread, _ in started:
        thread.join(PATIENCE)
    assert [answers for _, answers in started] == [[b"done"]] * 20
    assert most == 3


@pytest.mark.parametrize("path", ["/health", "/metrics"])
def test_probes_need_no_place(servers: Callable[[str], Server], path: str) -> None:
    client = small(servers)
    gate = client.application.wsgi_app
    gate.enter()
    try:
        assert client.get(path).status_code == 200
    finally:
        gate.leave()


def test_who_waits_too_long_for_a_place_is_told_to_come_again(
    servers: Callable[[str], Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.presentation.gate.WAIT_S", 0.1)
    client = small(servers)
    gate = client.application.wsgi_app
    gate.enter()
    for path in ("/ready", "/api/v1/stats"):
        response = client.get(path)
        assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
        assert set(response.json) == {"code", "status", "message"}
        assert response.headers["X-Request-ID"]
    assert Figures(client.get("/metrics").text)("predlog_requests_refused_total", reason="places") == 2
    gate.leave()
    assert client.get("/ready").status_code == 200


def test_who_finds_no_place_after_its_body_has_come_is_told_to_come_again(
    servers: Callable[[str], Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.presentation.gate.WAIT_S", 0.1)
    client, asked, go_on = small(servers), threading.Event(), threading.Event()
    gate = client.application.wsgi_app
    body = json.dumps(RECORD).encode()
    slow, answers = in_background(
        lambda: client.open(**arriving("/api/v1/predict-log", Trickle(body, asked, go_on), len(body)))
    )
    assert asked.wait(PATIENCE)
    gate.enter()
    go_on.set()
    slow.join(PATIENCE)
    assert (answers[0].status_code, answers[0].headers["Retry-After"]) == (503, "1")
    gate.leave()
    for _ in range(3):
        assert client.post("/api/v1/predict-log", json=RECORD).status_code == 200


def test_who_waits_for_bytes_leaves_its_place_to_others(servers: Callable[[str], Server]) -> None:
    client, asked, go_on = small(servers), threading.Event(), threading.Event()
    body = json.dumps(RECORD).encode()
    request = arriving("/api/v1/predict-log", Trickle(body, asked, go_on), len(body))
    slow, answers = in_background(lambda: client.open(**request))
    assert asked.wait(PATIENCE)
    assert client.get("/api/v1/stats?model_name=gate").status_code == 200
    assert client.post(BATCH, json=[RECORD]).status_code == 200
    go_on.set()
    slow.join(PATIENCE)
    assert answers[0].status_code == 200


def test_an_application_that_fails_gives_its_place_back() -> None:
    def application(environ: Any, start_response: Any) -> Iterable[bytes]:
        visit: Visit = environ[VISIT]
        with visit.outside():
            assert visit.hold(10)
            raise ZeroDivisionError

    gate = Gate(application, places=1, memory=10, patience_s=1)
    for _ in range(5):
        with pytest.raises(ZeroDivisionError):
            Client(gate).get("/")
    assert gate.reserve(10)


def test_an_answer_is_handed_on_in_one_piece_and_closed() -> None:
    closed = []

    class Answer:
        def __iter__(self) -> Any:
            return iter([b"one", b"two"])

        def close(self) -> None:
            closed.append(True)

    def application(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [])
        return Answer()

    answer = Gate(application, places=1, memory=0, patience_s=1)({"PATH_INFO": "/"}, lambda *_: None)
    assert answer == [b"onetwo"]
    assert closed == [True]


def batch_of(size: int) -> bytes:
    return json.dumps([RECORD]).encode() + b" " * size


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_large_bodies_have_so_much_memory_and_then_wait_outside(
    servers: Callable[[str], Server], encoding: str
) -> None:
    client = small(servers, max_body_bytes=1_000_000, batches_at_once=1)
    gate = client.application.wsgi_app
    body = batch_of(900_000)
    sent = {
        "data": gzip.compress(body) if encoding == "gzip" else body,
        "content_type": "application/json",
        "headers": {"Content-Encoding": encoding},
    }
    for _ in range(10):  # one after the other they have room, however many
        assert client.post(BATCH, **sent).status_code == 200
    assert gate.reserve(1_500_000)
    response = client.post(BATCH, **sent)
    assert response.status_code == 503
    assert response.headers.getlist("Retry-After") == ["1"]
    assert client.post(BATCH, json=[RECORD]).status_code == 200, "small ones have room"
    gate.reserve(-1_500_000)
    assert client.post(BATCH, **sent).status_code == 200
    assert Figures(client.get("/metrics").text)("predlog_requests_refused_total", reason="memory") == 1


def test_a_slow_batch_holds_no_slot(servers: Callable[[str], Server]) -> None:
    client, asked, go_on = small(servers, batches_at_once=1), threading.Event(), threading.Event()
    body = batch_of(0)
    request = arriving(BATCH, Trickle(body, asked, go_on), len(body))
    slow, answers = in_background(lambda: client.open(**request))
    assert asked.wait(PATIENCE)
    assert client.post(BATCH, json=[RECORD]).status_code == 200
    go_on.set()
    slow.join(PATIENCE)
    assert answers[0].status_code == 200


def test_a_body_that_takes_too_long_is_answered_408(servers: Callable[[str], Server]) -> None:
    class Slow(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            time.sleep(0.3)
            buffer[:1] = b" "
            return 1

    response = small(servers, request_timeout_s=1).open(**arriving("/api/v1/predict-log", Slow(), 1000))
    assert response.status_code == 408
    assert set(response.json) == {"code", "status", "message"}
    assert "1 seconds" in response.json["message"]


@pytest.mark.parametrize("path", ["/api/v1/predict-log", BATCH])
def test_a_body_that_is_shorter_than_it_said_is_not_taken(servers: Callable[[str], Server], path: str) -> None:
    body = json.dumps(RECORD if path != BATCH else [RECORD]).encode()
    response = small(servers).open(**arriving(path, io.BytesIO(body), len(body) + 1))
    assert response.status_code == 400
    assert "complete" in response.json["message"]


def test_the_openapi_document_says_that_a_body_may_come_too_late(servers: Callable[[str], Server]) -> None:
    paths = small(servers).get("/openapi.json").json["paths"]
    documented = {path for path, item in paths.items() if "408" in item.get("post", {}).get("responses", ())}
    assert documented == {"/api/v1/predict-log", BATCH}
