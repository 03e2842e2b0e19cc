"""WSGI: whatever an application and a server do, the prediction is logged once, timed to the end of its answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest

from misbehaving import Service
from predlog import Client
from predlog.integrations.wsgi import Middleware


@pytest.fixture
def serve(client: Client, service: Service) -> Any:
    """Answer a request as a server does, after so many chunks as if the reader had left; returns the records."""

    def serve(app: Any, path: Any = "/", chunks: Any = 99, **options: Any) -> Any:
        environ = {"PATH_INFO": path}
        setup_testing_defaults(environ)
        answer: Iterable[bytes] = ()
        try:
            answer = Middleware(app, client, {"/": "m"}, **options)(environ, lambda *_: None)
            for _ in zip(range(chunks), answer):
                pass
        finally:
            if close := getattr(answer, "close", None):
                close()
            assert client.flush()
        return list(service.records.values())

    return serve


def answering(status: str, body: Any = (b"ok",)) -> Any:
    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        start_response(status, [])
        return body

    return app


def test_a_request_is_a_prediction(serve: Callable[..., Any]) -> None:
    began = time.perf_counter()
    [record] = serve(answering("200 OK", [b"ok"]))
    lasted = (time.perf_counter() - began) * 1000
    assert record["model_name"] == "m" and record["was_successful"] and record["duration_ms"] <= lasted


def test_a_status_of_a_server_error_is_a_failure(serve: Callable[..., Any]) -> None:
    [record] = serve(answering("503 Service Unavailable"))
    assert not record["was_successful"] and record["error"] == "HTTP 503"


def test_a_wrong_request_and_another_path_are_not_logged(serve: Callable[..., Any]) -> None:
    assert serve(answering("404 Not Found")) == [] and serve(answering("200 OK"), path="/other") == []


def test_the_host_may_judge_a_status(serve: Callable[..., Any]) -> None:
    [record] = serve(answering("404 Not Found"), is_success=lambda status: status == 404)
    assert record["was_successful"]


def test_an_application_that_raises_is_a_failure_and_the_exception_goes_on(
    serve: Callable[..., Any], client: Client, service: Service
) -> None:
    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> None:
        raise KeyError("rooms")

    with pytest.raises(KeyError):
        serve(app)
    [record] = service.records.values()
    assert record["error"] == "KeyError: 'rooms'"


def test_the_application_may_set_the_logged_fields(serve: Callable[..., Any]) -> None:
    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        call = environ["predlog.call"]
        call.metadata["rooms"], call.version, call.error = 3, "7", "below zero"
        return answering("200 OK")(environ, start_response)

    [record] = serve(app)
    assert (record["metadata"], record["model_version"], record["error"]) == ({"rooms": 3}, "7", "below zero")
    assert not record["was_successful"]


def streaming(seconds: Any = 0.02, failure: Any = None, closed: Any = None) -> Any:
    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[Any]:
        start_response("200 OK", [])
        try:
            for _ in range(5):
                time.sleep(seconds)
                yield b"chunk"
            if failure:
                raise failure
        finally:
            if closed is not None:
                closed.append(1)

    return app


def test_an_answer_that_is_made_while_it_is_sent_is_timed_to_its_end(serve: Callable[..., Any]) -> None:
    [record] = serve(streaming())
    assert record["was_successful"] and record["duration_ms"] >= 100


def test_a_reader_that_leaves_early_is_no_failure_and_the_application_is_closed(serve: Callable[..., Any]) -> None:
    closed: list[int] = []
    [record] = serve(streaming(closed=closed), chunks=2)
    assert record["was_successful"] and record["duration_ms"] >= 40 and closed == [1]


def test_an_answer_that_breaks_is_a_failure(serve: Callable[..., Any], service: Service) -> None:
    with pytest.raises(RuntimeError):
        serve(streaming(failure=RuntimeError("out of memory")))
    [record] = service.records.values()
    assert record["error"] == "RuntimeError: out of memory"


def test_a_list_is_handed_on_as_it_is(client: Client) -> None:
    body = [b"ok"]
    assert Middleware(answering("200 OK", body), client, {"/": "m"})({"PATH_INFO": "/"}, lambda *_: None) is body
