"""The Django middleware, sync and async, each in a process of its own: Django has one configuration for each."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from conftest import Program
from misbehaving import Service

pytest.importorskip("django")

SITE = """
    import asyncio, json, sys, time, django
    from asgiref.sync import sync_to_async
    from django.conf import settings
    from django.core.exceptions import PermissionDenied
    from django.http import Http404, HttpResponse, StreamingHttpResponse
    from django.urls import path
    asynchronous, route, options = sys.argv[1] == "async", sys.argv[2], json.loads(sys.argv[3])
    settings.configure(
        MIDDLEWARE=["predlog.integrations.django.Middleware"], ROOT_URLCONF="__main__", PREDLOG=options,
        ALLOWED_HOSTS=["testserver"], LOGGING_CONFIG=None, DEBUG_PROPAGATE_EXCEPTIONS=False,
    )
    if options.pop("IGNORING", None):
        options["IGNORE_EXCEPTIONS"] = ValueError
    parts = options.pop("PARTS", None)
    django.setup()
    def predict(request, model):
        request.predlog.metadata["rooms"] = 3
        return HttpResponse("1")
    def fail(request):
        raise ValueError("below zero")
    def missing(request):
        raise Http404("no such flat")
    def forbidden(request):
        raise PermissionDenied
    def stream(request):
        def chunks():
            for _ in range(3):
                time.sleep(0.03)
                yield b"x"
        async def later():
            for _ in range(3):
                await asyncio.sleep(0.03)
                yield b"x"
        return StreamingHttpResponse(later() if asynchronous else chunks())
    def broken(request):
        def chunks():
            yield b"x"
            raise ValueError("below zero")
        async def later():
            for chunk in chunks():
                yield chunk
        return StreamingHttpResponse(later() if asynchronous else chunks())
    async def predict_later(request, model):
        return predict(request, model)
    urlpatterns = [
        path("predict/<str:model>", predict_later if asynchronous else predict),
        path("fail", fail), path("stream", stream), path("broken", broken),
        path("missing", missing), path("forbidden", forbidden),
    ]
    from django.test import AsyncClient, Client
    async def get():
        answer = await AsyncClient(raise_request_exception=False).get(route)
        if parts is not None:
            steps = answer.streaming_content.__aiter__()
            for _ in range(parts):
                await steps.__anext__()
            await sync_to_async(answer.close)()
        elif answer.streaming:
            async for _ in answer.streaming_content:
                pass
        return answer
    def get_now():
        answer = Client(raise_request_exception=False).get(route)
        if parts is None:
            b"".join(answer)
        else:
            steps = iter(answer)
            for _ in range(parts):
                next(steps)
            answer.close()
        return answer
    try:
        print((asyncio.run(get()) if asynchronous else get_now()).status_code)
    except ValueError:  # of a stream that is read
        print(200)
"""


@pytest.fixture(params=["sync", "async"])
def get(request: pytest.FixtureRequest, program: Program, service: Service) -> Any:
    def get(path: Any, **options: Any) -> Any:
        out = program.run(SITE, request.param, path, json.dumps({"URL": service.url, **options}))
        return int(out), list(service.records.values())

    return get


def test_a_route_is_a_model_with_the_name_of_its_pattern(get: Callable[..., Any]) -> None:
    status, [record] = get("/predict/price")
    assert status == 200 and record["model_name"] == "/predict/<str:model>" and record["metadata"] == {"rooms": 3}


def test_routes_name_models(get: Callable[..., Any]) -> None:
    _, [record] = get("/predict/price", ROUTES={"/predict/<str:model>": "{model}"})
    assert record["model_name"] == "price"


def test_an_exception_is_logged_as_it_was(get: Callable[..., Any]) -> None:
    status, [record] = get("/fail")
    assert status == 500 and record["error"] == "ValueError: below zero"


def test_an_ignored_exception_leaves_no_record(get: Callable[..., Any]) -> None:
    assert get("/fail", IGNORING=True) == (500, [])


def test_a_stream_is_timed_to_its_end(get: Callable[..., Any]) -> None:
    _, [record] = get("/stream")
    assert record["was_successful"] and record["duration_ms"] >= 90


@pytest.mark.parametrize("parts", [0, 1])
def test_a_stream_that_is_left_before_or_after_its_first_part_is_logged(get: Callable[..., Any], parts: int) -> None:
    _, [record] = get("/stream", PARTS=parts)
    assert record["was_successful"]


def test_a_stream_that_breaks_is_a_failure(get: Callable[..., Any]) -> None:
    _, [record] = get("/broken")
    assert record["error"] == "ValueError: below zero"


@pytest.mark.parametrize(("path", "status"), [("/missing", 404), ("/forbidden", 403)])
def test_an_exception_that_says_that_the_request_was_wrong_is_judged_by_its_status(
    get: Callable[..., Any], path: Any, status: Any
) -> None:
    assert get(path) == (status, [])


def test_a_path_without_a_route_is_not_logged(get: Callable[..., Any]) -> None:
    assert get("/none") == (404, [])
