"""Which requests are predictions of which model, whatever the host."""

from __future__ import annotations

from typing import Any

import pytest

import predlog
from conftest import Program
from misbehaving import Service
from predlog import Client
from predlog.integrations.http import Requests, by_status, from_settings


def named(client: Client, path: Any, **options: Any) -> Any:
    request = Requests(client, **options).begin(path)
    return None if request is None else request.call.model_name


@pytest.mark.parametrize("pattern", ["/models/{name}/predict", "/models/<name>/predict", "/models/<str:name>/predict"])
def test_a_placeholder_of_a_route_may_stand_in_the_models_name(client: Client, pattern: Any) -> None:
    routes = {pattern: "the {name}"}
    assert named(client, "/models/price/predict", routes=routes) == "the price"
    assert named(client, "/models/price/predict/", routes=routes) == "the price"
    assert named(client, "/models/a/b/predict", routes=routes) is None
    assert named(client, "/models/predict", routes=routes) is None


@pytest.mark.parametrize("pattern", ["/files/{name:path}", "/files/<path:name>"])
def test_a_path_placeholder_takes_slashes(client: Client, pattern: Any) -> None:
    assert named(client, "/files/a/b", routes={pattern: "{name}"}) == "a/b"


def test_the_first_route_that_matches_counts(client: Client) -> None:
    routes = {"/predict/fast": "fast", "/predict/{name}": "{name}", "/": "root"}
    assert [named(client, path, routes=routes) for path in ("/predict/fast", "/predict/slow", "/")] == [
        "fast",
        "slow",
        "root",
    ]


def test_characters_of_patterns_are_what_they_are(client: Client) -> None:
    assert named(client, "/a.b(c)", routes={"/a.b(c)": "m"}) == "m"
    assert named(client, "/axb(c)", routes={"/a.b(c)": "m"}) is None


def test_a_name_from_a_path_is_cut_to_what_the_service_takes(client: Client) -> None:
    assert len(named(client, "/" + "n" * 5000, routes={"/{name}": "{name}"})) == 200


def test_paths_of_probes_and_pages_are_not_logged_by_default(client: Client) -> None:
    assert [named(client, path) for path in ("/healthz", "/metrics", "/docs", "/predict")] == [None, None, None, ""]
    assert named(client, "/healthz", ignore=()) == "" and named(client, "/predict", ignore=["/pre*"]) is None


@pytest.mark.parametrize("name", ["{other}", "{}", "{name"])
def test_a_name_that_its_route_cannot_fill_is_refused(client: Client, name: str) -> None:
    with pytest.raises(ValueError, match="placeholder"):
        Requests(client, {"/{name}": name})


def test_5xx_is_a_failure_and_4xx_asked_no_model() -> None:
    assert [by_status(status) for status in (200, 302, 404, 422, 500, 503)] == [True, True, None, None, False, False]


def test_a_judge_that_raises_leaves_the_default(client: Client, service: Service) -> None:
    request = Requests(client, {"/": "m"}, is_success=lambda status: bool(1 / 0)).begin("/")
    assert request is not None
    request.status = 500
    request.end()
    assert client.flush() and [record["error"] for record in service.records.values()] == ["HTTP 500"]


def test_settings_of_a_host_make_a_client(service: Service) -> None:
    log, options = from_settings({"URL": service.url, "BATCH_SIZE": 7, "ROUTES": {"/": "m"}})
    assert log._settings.batch_size == 7 and options == {"routes": {"/": "m"}}
    log.close()
    assert from_settings({"LOG": log})[0] is log
    with pytest.raises(TypeError):
        from_settings({"URL": service.url, "NO_SUCH": 1})


def test_importing_the_integrations_imports_no_host(program: Program) -> None:
    program.run("""
        import sys, predlog.integrations.asgi, predlog.integrations.http, predlog.integrations.predict
        import predlog.integrations.starlette, predlog.integrations.wsgi
        assert not {"flask", "django", "starlette", "celery"} & sys.modules.keys()
    """)


def test_a_disabled_client_logs_nothing() -> None:
    request = Requests(predlog.Client(enabled=False), {"/": "m"}).begin("/")
    assert request is not None
    request.status = 200
    request.end()
