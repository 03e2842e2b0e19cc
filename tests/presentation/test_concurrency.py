"""So many requests at once, and so much memory for what they bring; whatever happens, both are given back."""

from __future__ import annotations

import gzip
import io
import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast
from uuid import uuid4

import pytest
from flask.testing import FlaskClient
from werkzeug.test import Client

from app.presentation.middleware.concurrency import PERMIT, PIECE_BYTES, ConcurrencyLimit, Permit
from conftest import Server, make_app
from support.figures import Figures

TIMEOUT = 60.0
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
        assert self._go_on.wait(TIMEOUT)
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


def limit_of(client: FlaskClient) -> ConcurrencyLimit:
    """The middleware, which tests may ask for a permit."""
    return cast(ConcurrencyLimit, client.application.wsgi_app)


def in_background(call: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(call()))
    thread.start()
    return thread, answers


def test_no_more_requests_than_there_are_permits_are_worked_on_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.presentation.middleware.concurrency.WAIT_S", TIMEOUT)
    at_once, most, lock, together = 0, 0, threading.Lock(), threading.Barrier(3)

    def application(environ: Any, start_response: Any) -> Iterable[bytes]:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        together.wait(TIMEOUT)
        time.sleep(0.02)
        with lock:
            at_once -= 1
        start_response("200 OK", [])
        return [b"done"]

    client = Client(limited(application, permits=3))
    started = [in_background(lambda: client.get("/").data) for _ in range(21)]
    for thread, _ in started:
        thread.join(TIMEOUT)
    assert [answers for _, answers in started] == [[b"done"]] * 21
    assert most == 3


@pytest.mark.parametrize("path", ["/health", "/metrics"])
def test_probes_need_no_permit(servers: Callable[[str], Server], path: str) -> None:
    client = small(servers)
    limit = limit_of(client)
    limit.enter()
    try:
        assert client.get(path).status_code == 200
    finally:
        limit.leave()


def test_a_request_that_waits_too_long_for_a_permit_is_answered_503(
    servers: Callable[[str], Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.presentation.middleware.concurrency.WAIT_S", 0.1)
    client = small(servers)
    limit = limit_of(client)
    limit.enter()
    for path in ("/ready", "/api/v1/stats"):
        response = client.get(path)
        assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
        assert set(response.json) == {"code", "status", "message"}
        assert response.headers["X-Request-ID"]
    assert Figures(client.get("/metrics").text)("predlog_requests_refused_total", reason="permits") == 2
    limit.leave()
    assert client.get("/ready").status_code == 200


def test_a_request_without_a_permit_after_its_body_is_answered_503(
    servers: Callable[[str], Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.presentation.middleware.concurrency.WAIT_S", 0.1)
    client, asked, go_on = small(servers), threading.Event(), threading.Event()
    limit = limit_of(client)
    body = json.dumps(RECORD).encode()
    slow, answers = in_background(
        lambda: client.open(**arriving("/api/v1/predict-log", Trickle(body, asked, go_on), len(body)))
    )
    assert asked.wait(TIMEOUT)
    limit.enter()
    go_on.set()
    slow.join(TIMEOUT)
    assert (answers[0].status_code, answers[0].headers["Retry-After"]) == (503, "1")
    limit.leave()
    for _ in range(3):
        assert client.post("/api/v1/predict-log", json=RECORD).status_code == 200


def test_a_request_that_waits_for_bytes_gives_its_permit_back(servers: Callable[[str], Server]) -> None:
    client, asked, go_on = small(servers), threading.Event(), threading.Event()
    body = json.dumps(RECORD).encode()
    request = arriving("/api/v1/predict-log", Trickle(body, asked, go_on), len(body))
    slow, answers = in_background(lambda: client.open(**request))
    assert asked.wait(TIMEOUT)
    assert limit_of(client).at_work() == []
    assert client.get("/api/v1/stats?model_name=gate").status_code == 200
    assert client.post(BATCH, json=[RECORD]).status_code == 200
    go_on.set()
    slow.join(TIMEOUT)
    assert answers[0].status_code == 200


def test_an_application_that_fails_gives_its_permit_back() -> None:
    def application(environ: Any, start_response: Any) -> Iterable[bytes]:
        permit: Permit = environ[PERMIT]
        with permit.outside():
            assert permit.hold(10)
            raise ZeroDivisionError

    guarded = limited(application, bodies=10)
    for _ in range(5):
        with pytest.raises(ZeroDivisionError):
            Client(guarded).get("/")
    assert guarded.bodies.take(10)


def test_a_request_is_at_work_from_the_end_of_its_body_to_the_end_of_its_answer() -> None:
    seen = []

    def application(environ: Any, start_response: Any) -> Iterable[bytes]:
        with environ[PERMIT].outside():
            seen.append(guarded.at_work())
            arrived = time.monotonic()
        ((address, since),) = guarded.at_work()
        assert address == "10.0.0.1" and since >= arrived
        return [b"x" * 100_000]

    guarded = limited(application)
    answer: Any = guarded({"REMOTE_ADDR": "10.0.0.1"}, lambda *_: None)
    assert seen == [[]]
    assert len(guarded.at_work()) == 1
    answer.close()
    assert guarded.at_work() == []


class Answer:
    """An answer that knows whether it was closed."""

    def __init__(self, *parts: bytes) -> None:
        self.parts = parts
        self.times_closed = 0

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.parts)

    def close(self) -> None:
        self.times_closed += 1


def limited(
    application: Any, permits: int = 1, reads: int | None = None, bodies: int = 0, answers: int = 0
) -> ConcurrencyLimit:
    return ConcurrencyLimit(
        application, permits=permits, reads=reads or permits, bodies=bodies, answers=answers, timeout_s=1
    )


def ask(guarded: ConcurrencyLimit, method: str = "GET") -> Any:
    return guarded({"PATH_INFO": "/", "REQUEST_METHOD": method}, lambda *_: None)


def test_a_small_answer_is_handed_on_in_one_piece_and_closed() -> None:
    answer = Answer(b"one", b"two")
    assert ask(limited(lambda *_: answer)) == [b"onetwo"]
    assert answer.times_closed == 1


def test_a_large_answer_is_handed_on_in_small_pieces_and_closed_at_the_end() -> None:
    answer = Answer(b"x" * 100_000, b"y", b"z" * 50_000)
    handed_on = ask(limited(lambda *_: answer))
    pieces = list(handed_on)
    assert b"".join(pieces) == b"".join(answer.parts)
    assert max(map(len, pieces)) <= PIECE_BYTES
    assert answer.times_closed == 0
    handed_on.close()
    assert answer.times_closed == 1


def test_an_answer_that_is_streamed_is_handed_on_before_there_is_any_of_it() -> None:
    permits: list[Permit] = []

    def application(environ: Any, start_response: Any) -> Iterable[bytes]:
        permits.append(environ[PERMIT])
        environ[PERMIT].stream()
        return map(bytes, iter(lambda: pytest.fail("it was read"), None))

    ask(limited(application))
    assert not permits[0].is_granted


def test_an_answer_that_is_not_read_holds_its_memory_and_no_permit() -> None:
    def application(environ: Any, start_response: Any) -> Iterable[bytes]:
        permit: Permit = environ[PERMIT]
        return [b"x" * 100_000] if permit.hold_answer(100_000) else [b"none left"]

    guarded = limited(application, permits=1, answers=250_000)
    unread = [ask(guarded) for _ in range(2)]
    assert ask(guarded) == [b"none left"]
    next(iter(unread[0]))
    unread[0].close()
    assert ask(guarded) != [b"none left"]


def test_an_answer_to_a_write_always_finds_memory_and_the_next_write_none_until_it_is_read() -> None:
    def application(environ: Any, start_response: Any) -> Iterable[bytes]:
        permit: Permit = environ[PERMIT]
        if permit.is_overdrawn:
            return [b"refused"]
        return [b"x" * 100_000] if permit.hold_answer(100_000) else [b"none left"]

    guarded = limited(application, answers=150_000)
    unread = [ask(guarded), *(ask(guarded, "POST") for _ in range(2))]
    assert all(not isinstance(answer, list) for answer in unread)
    assert ask(guarded) == [b"none left"]
    assert ask(guarded, "POST") == [b"refused"]
    unread[-1].close()
    assert ask(guarded, "POST") != [b"refused"]


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_reads_leave_permits_to_writes(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each read that is let in asks for one more, and has something written."""
    monkeypatch.setattr("app.presentation.middleware.concurrency.WAIT_S", 0.05)
    let_in = []

    def application(environ: Any, start_response: Any) -> Iterable[bytes]:
        let_in.append(environ["REQUEST_METHOD"] if environ[PERMIT].is_granted else "none")
        if let_in[-1] == method:
            ask(guarded, method)
            ask(guarded, "POST")
        return [b""]

    guarded = limited(application, permits=4, reads=2)
    ask(guarded, method)
    assert let_in == [method, method, "none", "POST", "POST"]
    assert [guarded.enter() for _ in range(4)] == [True] * 4, "all were given back"


@pytest.mark.parametrize("path", ["/ready", "/health"])
def test_probes_are_answered_while_reads_have_all_they_may(servers: Callable[[str], Server], path: str) -> None:
    client = make_app(servers("plain").url, threads=2, pool_size=2).test_client()
    guarded = limit_of(client)
    assert guarded.enter(is_read=True)
    assert client.get(path).status_code == 200
    guarded.leave(is_read=True)


def test_a_large_answer_that_finds_no_memory_is_refused_in_the_shape_of_every_error(
    servers: Callable[[str], Server],
) -> None:
    client = make_app(servers("plain").url).test_client()
    memory = limit_of(client).answers
    large = {**RECORD, "model_name": f"large-{uuid4()}", "error": "x" * 4000}
    assert client.post(BATCH, json=[large] * 100).status_code == 200
    url = f"/api/v1/predictions?model_name={large['model_name']}"
    taken = 64 * 2**20 - 100_000
    assert memory.take(taken)
    response = client.get(url)
    assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
    assert set(response.json) == {"code", "status", "message"}
    assert response.headers["X-Request-ID"]
    assert Figures(client.get("/metrics").text)("predlog_requests_refused_total", reason="memory") == 1
    assert client.get(f"{url}&limit=1").status_code == 200, "small ones have room"
    memory.give_back(taken)
    assert len(client.get(url).json) == 100


def batch_of(size: int) -> bytes:
    return json.dumps([RECORD]).encode() + b" " * size


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_large_bodies_have_so_much_memory_and_then_wait_outside(
    servers: Callable[[str], Server], encoding: str
) -> None:
    client = small(servers, max_body_bytes=1_000_000, max_concurrent_batches=1)
    limit = limit_of(client)
    body = batch_of(900_000)
    sent = {
        "data": gzip.compress(body) if encoding == "gzip" else body,
        "content_type": "application/json",
        "headers": {"Content-Encoding": encoding},
    }
    for _ in range(10):  # one after the other they have room, however many
        assert client.post(BATCH, **sent).status_code == 200
    assert limit.bodies.take(1_500_000)
    response = client.post(BATCH, **sent)
    assert response.status_code == 503
    assert response.headers.getlist("Retry-After") == ["1"]
    assert client.post(BATCH, json=[RECORD]).status_code == 200, "small ones have room"
    limit.bodies.give_back(1_500_000)
    assert client.post(BATCH, **sent).status_code == 200
    assert Figures(client.get("/metrics").text)("predlog_requests_refused_total", reason="memory") == 1


def test_a_slow_batch_holds_no_permit(servers: Callable[[str], Server]) -> None:
    client, asked, go_on = small(servers, max_concurrent_batches=1), threading.Event(), threading.Event()
    body = batch_of(0)
    request = arriving(BATCH, Trickle(body, asked, go_on), len(body))
    slow, answers = in_background(lambda: client.open(**request))
    assert asked.wait(TIMEOUT)
    assert client.post(BATCH, json=[RECORD]).status_code == 200
    go_on.set()
    slow.join(TIMEOUT)
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
    assert documented == {"/api/v1/predict-log", BATCH, "/api/v1/dropped", "/v1/cloudevents"}  # OTLP's is a 503
