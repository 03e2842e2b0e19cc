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
from fastapi import APIRouter, FastAPI, Request
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route

from predlog.integrations import asgi
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


def ask(app: Any, path: str, root_path: str = "") -> dict[str, Any]:
    """Answer one request of a client that stays; the scope as the application left it."""
    sent: list[Any] = []

    async def receive() -> Any:
        await asyncio.sleep(0 if not sent else 60)
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "GET", "path": path, "root_path": root_path, "headers": [], "query_string": b"",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
    }  # fmt: skip
    with contextlib.suppress(ValueError):
        asyncio.run(app(scope, receive, send))
    scope["status"] = sent[0]["status"]
    return scope


@pytest.fixture(params=[fastapi_app, starlette_app], ids=["fastapi", "starlette"])
def get(request: pytest.FixtureRequest, client: Client, service: Service) -> Any:
    """Answer one request; the status and the records."""

    def get(path: Any, **options: Any) -> Any:
        app = request.param()
        app.add_middleware(Middleware, log=client, **options)
        if request.param is starlette_app and path != "/predict/price":
            path = f"/m{path}"
        status = ask(app, path)["status"]
        assert client.flush()
        return status, list(service.records.values())

    return get


def test_a_route_is_a_model_with_the_name_of_its_pattern(get: Callable[..., Any]) -> None:
    status, [record] = get("/predict/price")
    assert status == 200 and record["model_name"] == "/predict/{model}" and record["metadata"] == {"rooms": 3}


async def plain(scope: Any, receive: Any, send: Any) -> None:
    await PlainTextResponse("1")(scope, receive, send)


def with_mounts(kind: Any) -> Any:
    """Mounts in mounts, one inner application in two places, the same endpoint inside and outside, plain ASGI."""
    inner = kind(routes=[Route("/predict/{rooms:int}", predict)])
    return kind(
        routes=[
            Route("/predict/{rooms:int}", predict),
            Mount("/models/{name}", routes=[Mount("/v1", app=inner), Mount("/plain", app=plain)]),
            Mount("/v2", app=inner),
            Mount("", routes=[Route("/last", stream)]),
        ]
    )


MOUNTED = [
    ("/predict/3", "/predict/{rooms:int}"),
    ("/models/price/v1/predict/3", "/models/{name}/v1/predict/{rooms:int}"),
    ("/v2/predict/3", "/v2/predict/{rooms:int}"),
    ("/last", "/last"),
]


@pytest.mark.parametrize(("path", "model"), MOUNTED)
@pytest.mark.parametrize("root_path", ["", "/proxied"])
@pytest.mark.parametrize("kind", [FastAPI, Starlette])
def test_the_pattern_of_a_mounted_route_begins_with_those_of_its_mounts(
    client: Client, service: Service, kind: Any, root_path: str, path: str, model: str
) -> None:
    app = with_mounts(kind)
    app.add_middleware(Middleware, log=client)
    assert ask(app, root_path + path, root_path)["status"] == 200
    assert client.flush() and [record["model_name"] for record in service.records.values()] == [model]


@pytest.mark.parametrize(("path", "model"), [*MOUNTED, ("/models/price/plain", "")])
def test_a_mounted_route_is_found_by_its_endpoint_if_starlette_does_not_tell_the_route(
    client: Client, path: str, model: str
) -> None:
    app = with_mounts(Starlette)
    app.add_middleware(Middleware, log=client)
    scope = ask(app, path)
    scope.pop("route", None)
    assert Middleware(app, client).model_of(scope) == model


def test_an_application_without_routes_is_named_as_its_mounts(client: Client, service: Service) -> None:
    app = with_mounts(Starlette)
    app.add_middleware(Middleware, log=client)
    if "route" in ask(app, "/models/price/plain/x"):
        assert client.flush()
        assert [record["model_name"] for record in service.records.values()] == ["/models/{name}/plain"]


def test_the_root_path_of_an_application_is_no_part_of_a_pattern(client: Client, service: Service) -> None:
    app = FastAPI()
    app.root_path = "/api"
    app.get("/predict")(predict)
    app.mount("/v1", app=Starlette(routes=[Route("/predict", predict)]))
    for path in ("/api/predict", "/api/v1/predict"):
        ask(asgi.Middleware(app, client, None), path)
    assert client.flush()
    assert {record["model_name"] for record in service.records.values()} == {"/predict", "/v1/predict"}


def test_the_pattern_of_an_included_route_begins_with_its_prefixes(client: Client, service: Service) -> None:
    router, inner, app = APIRouter(), APIRouter(prefix="/{name}"), FastAPI()
    router.get("/predict")(predict)
    inner.get("/predict")(predict)
    router.include_router(inner, prefix="/models")
    for prefix in ("/v1", "/v2"):
        app.include_router(router, prefix=prefix)
    app.add_middleware(Middleware, log=client)
    for path in ("/v1/predict", "/v2/predict", "/v2/models/price/predict"):
        assert ask(app, path)["status"] == 200
    assert client.flush()
    models = {record["model_name"] for record in service.records.values()}
    assert models == {"/v1/predict", "/v2/predict", "/v2/models/{name}/predict"}


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
