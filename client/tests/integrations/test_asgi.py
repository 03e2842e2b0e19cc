"""ASGI: whatever an application and a server do, the prediction is logged once, and the end of the server sends it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from misbehaving import Service
from predlog import Client
from predlog.integrations.asgi import Middleware

START = {"type": "http.response.start", "status": 200, "headers": []}


def part(more: Any) -> Any:
    return {"type": "http.response.body", "body": b"x", "more_body": more}


@pytest.fixture
def serve(client: Client, service: Service) -> Any:
    """Answer a request; returns the records."""

    def serve(app: Any, path: Any = "/", send: Any = None, **scope: Any) -> Any:
        async def ignore(*_: Any) -> Any:
            return {"type": "http.request"}

        scope = {"type": "http", "path": path, "root_path": "", **scope}
        try:
            asyncio.run(Middleware(app, client, {"/": "m"})(scope, ignore, send or ignore))
        finally:
            assert client.flush()
        return list(service.records.values())

    return serve


def answering(status: int) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({**START, "status": status})
        await send(part(False))

    return app


def test_a_request_is_a_prediction(serve: Callable[..., Any]) -> None:
    [record] = serve(answering(200))
    assert record["model_name"] == "m" and record["was_successful"]


def test_a_status_of_a_server_error_is_a_failure(serve: Callable[..., Any]) -> None:
    [record] = serve(answering(500))
    assert record["error"] == "HTTP 500"


def test_the_path_below_a_mount_counts(serve: Callable[..., Any]) -> None:
    assert len(serve(answering(200), path="/api/", root_path="/api")) == 1


def test_a_wrong_request_another_path_and_a_websocket_are_not_logged(serve: Callable[..., Any]) -> None:
    assert serve(answering(422)) == [] == serve(answering(200), path="/x") == serve(answering(200), type="websocket")


def test_an_application_that_raises_is_a_failure_and_the_exception_goes_on(
    serve: Callable[..., Any], service: Service
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise KeyError("rooms")

    with pytest.raises(KeyError):
        serve(app)
    [record] = service.records.values()
    assert record["error"] == "KeyError: 'rooms'"


def test_an_answer_is_timed_to_its_last_part_and_no_longer(serve: Callable[..., Any]) -> None:
    sent = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send(part(True))
        await asyncio.sleep(0.1)
        await send(part(False))
        sent.append(time.perf_counter())
        await asyncio.sleep(0.1)  # a background task

    began = time.perf_counter()
    [record] = serve(app)
    assert 100 <= record["duration_ms"] <= (sent[0] - began) * 1000


def test_a_reader_that_leaves_early_is_no_failure(serve: Callable[..., Any], service: Service) -> None:
    parts = []

    async def send(message: Any) -> None:
        parts.append(message)
        if len(parts) > 2:
            raise OSError

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        while True:
            await send(part(True))

    with pytest.raises(OSError):
        serve(app, send=send)
    assert [record["was_successful"] for record in service.records.values()] == [True]


@pytest.mark.parametrize("begun", [True, False])
def test_being_cancelled_is_a_failure_only_before_the_first_part(
    serve: Callable[..., Any], service: Service, begun: Any
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        if begun:
            await send(part(True))
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        serve(app)
    assert [record["was_successful"] for record in service.records.values()] == [begun]


async def with_lifespan(scope: Any, receive: Any, send: Any) -> None:
    for kind in ("startup", "shutdown"):
        assert (await receive())["type"] == f"lifespan.{kind}"
        await send({"type": f"lifespan.{kind}.complete"})


async def that_raises(scope: Any, receive: Any, send: Any) -> None:
    raise ValueError("only http")


async def that_raises_late(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    raise ValueError("only http")


async def that_returns(scope: Any, receive: Any, send: Any) -> None:
    return


@pytest.mark.parametrize("app", [with_lifespan, that_raises, that_raises_late, that_returns], ids=lambda a: a.__name__)
def test_the_end_of_the_server_sends_what_waits_whether_the_application_has_a_lifespan_or_not(
    make_client: Callable[..., Client], service: Service, app: Any
) -> None:
    client = make_client(flush_interval=60)
    messages = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    sent = []

    async def receive() -> Any:
        if len(messages) == 1:
            await asyncio.sleep(0.3)  # past the first flush of the process
            client.log("m", duration_ms=1, was_successful=True)
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append((message["type"], len(service.records)))

    asyncio.run(Middleware(app, client, {})({"type": "lifespan"}, receive, send))
    assert sent == [("lifespan.startup.complete", 0), ("lifespan.shutdown.complete", 1)]


def test_a_startup_that_fails_still_fails(client: Client) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed"})
        raise RuntimeError("no model file")

    sent = []

    async def receive() -> Any:
        return {"type": "lifespan.startup"}

    async def send(message: Any) -> None:
        sent.append(message["type"])

    with pytest.raises(RuntimeError):
        asyncio.run(Middleware(app, client, {})({"type": "lifespan"}, receive, send))
    assert sent == ["lifespan.startup.failed"]
