"""WSGI: whatever an application and a server do, the call is logged once, with the time to the end of its answer."""

from __future__ import annotations

import time
from wsgiref.util import setup_testing_defaults

import pytest

from predlog.integrations.wsgi import Middleware


@pytest.fixture
def serve(client, service):
    """Answer a request as a server does, after so many chunks as if the reader had left; returns the records."""

    def serve(app, path="/", chunks=99, **options):
        environ = {"PATH_INFO": path}
        setup_testing_defaults(environ)
        answer = ()
        try:
            answer = Middleware(app, client, {"/": "m"}, **options)(environ, lambda *_: None)
            for _ in zip(range(chunks), answer):
                pass
        finally:
            if hasattr(answer, "close"):
                answer.close()
            assert client.flush()
        return list(service.records.values())

    return serve


def answering(status, body=(b"ok",)):
    def app(environ, start_response):
        start_response(status, [])
        return body

    return app


def test_a_request_is_a_prediction(serve):
    [record] = serve(answering("200 OK", [b"ok"]))
    assert record["model_name"] == "m" and record["was_successful"] and record["duration_ms"] < 1000


def test_a_status_of_a_server_error_is_a_failure(serve):
    [record] = serve(answering("503 Service Unavailable"))
    assert not record["was_successful"] and record["error"] == "HTTP 503"


def test_a_wrong_request_and_another_path_are_not_logged(serve):
    assert serve(answering("404 Not Found")) == [] and serve(answering("200 OK"), path="/other") == []


def test_the_host_may_judge_a_status(serve):
    [record] = serve(answering("404 Not Found"), is_success=lambda status: status == 404)
    assert record["was_successful"]


def test_an_application_that_raises_is_a_failure_and_the_exception_goes_on(serve, client, service):
    def app(environ, start_response):
        raise KeyError("rooms")

    with pytest.raises(KeyError):
        serve(app)
    [record] = service.records.values()
    assert record["error"] == "KeyError: 'rooms'"


def test_the_application_may_set_the_logged_fields(serve):
    def app(environ, start_response):
        call = environ["predlog.call"]
        call.metadata["rooms"], call.version, call.error = 3, "7", "below zero"
        return answering("200 OK")(environ, start_response)

    [record] = serve(app)
    assert (record["metadata"], record["model_version"], record["error"]) == ({"rooms": 3}, "7", "below zero")
    assert not record["was_successful"]


def streaming(seconds=0.02, failure=None, closed=None):
    def app(environ, start_response):
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


def test_an_answer_that_is_made_while_it_is_sent_is_timed_to_its_end(serve):
    [record] = serve(streaming())
    assert record["was_successful"] and record["duration_ms"] >= 100


def test_a_reader_that_leaves_early_is_no_failure_and_the_application_is_closed(serve):
    closed = []
    [record] = serve(streaming(closed=closed), chunks=2)
    assert record["was_successful"] and record["duration_ms"] >= 40 and closed == [1]


def test_an_answer_that_breaks_is_a_failure(serve, service):
    with pytest.raises(RuntimeError):
        serve(streaming(failure=RuntimeError("out of memory")))
    [record] = service.records.values()
    assert record["error"] == "RuntimeError: out of memory"


def test_a_list_is_handed_on_as_it_is(client):
    body = [b"ok"]
    assert Middleware(answering("200 OK", body), client, {"/": "m"})({"PATH_INFO": "/"}, lambda *_: None) is body
