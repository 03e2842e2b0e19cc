"""Starlette and FastAPI."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from misbehaving import Service
from predlog import Client

pytest.importorskip("fastapi")
from fastapi import FastAPI, Request
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route

from predlog.integrations.fastapi import Middleware, lifespan


async def predict(request: Request) -> Any:
    request.scope["predlog.call"].metadata["rooms"] = 3
    return PlainTextResponse("1")


def fail(request: Request) -> None:
    raise ValueError("below zero")


async def stream(request: Request) -> Any:
    async def chunks() -> AsyncIterator[Any]:
        for _ in range(3):
            await asyncio.sleep(0.03)
            yield b"x"

    return StreamingResponse(chunks())


def fastapi_app() -> Any:
    app = FastAPI()
    app.get("/predict/{model}")(predict)
    app.get("/fail")(fail)
    app.get("/stream")(stream)
    return app


def starlette_app() -> Any:
    return Starlette(
        routes=[
            Route("/predict/{model}", predict),
            Mount("/m", routes=[Route("/fail", fail), Route("/stream", stream)]),
        ]
    )


@pytest.fixture(params=[fastapi_app, starlette_app], ids=["fastapi", "starlette"])
def get(request: pytest.FixtureRequest, client: Client, service: Service) -> Any:
    """Answer one request; the status and the records."""

    def get(path: Any, **options: Any) -> Any:
        app = request.param()
        app.add_middleware(Middleware, log=client, **options)
        sent: list[Any] = []

        async def receive() -> Any:
            await asyncio.sleep(0 if not sent else 60)
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        if request.param is starlette_app and path != "/predict/price":
            path = f"/m{path}"
        scope = {
            "type": "http", "method": "GET", "path": path, "root_path": "", "headers": [], "query_string": b"",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
        }  # fmt: skip
        with contextlib.suppress(ValueError):
            asyncio.run(app(scope, receive, send))
        assert client.flush()
        return sent[0]["status"], list(service.records.values())

    return get


def test_a_route_is_a_model_with_the_name_of_its_pattern(get: Callable[..., Any]) -> None:
    status, [record] = get("/predict/price")
    assert status == 200 and record["model_name"] == "/predict/{model}" and record["metadata"] == {"rooms": 3}


def test_routes_name_models(get: Callable[..., Any]) -> None:
    _, [record] = get("/predict/price", routes={"/predict/{model}": "{model}"})
    assert record["model_name"] == "price"


def test_an_exception_is_logged_as_it_was(get: Callable[..., Any]) -> None:
    status, [record] = get("/fail")
    assert status == 500 and record["error"] == "ValueError: below zero"


def test_a_stream_is_timed_to_its_end(get: Callable[..., Any]) -> None:
    _, [record] = get("/stream")
    assert record["was_successful"] and record["duration_ms"] >= 90


def test_a_path_without_a_route_is_not_logged(get: Callable[..., Any]) -> None:
    assert get("/none") == (404, [])


def test_a_lifespan_sends_what_waits_after_the_one_inside(make_client: Callable[..., Client], service: Service) -> None:
    client = make_client(flush_interval=60)
    seen = []

    @contextlib.asynccontextmanager
    async def inner(app: Any) -> AsyncIterator[Any]:
        yield {"model": 1}
        client.log("m", duration_ms=1, was_successful=True)

    async def live() -> None:
        async with lifespan(client, inner)(None) as state:
            seen.append(state)
        async with lifespan(client)(None):
            pass

    asyncio.run(live())
    assert seen == [{"model": 1}] and len(service.records) == 1
