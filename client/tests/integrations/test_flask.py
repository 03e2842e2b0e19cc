"""The Flask extension."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from misbehaving import Service

flask = pytest.importorskip("flask")

from predlog.integrations.flask import Predlog  # noqa: E402


def make_app(service: Service, *, log: Any = None, **config: Any) -> Any:
    app = flask.Flask("served")
    app.config.update(PREDLOG_URL=service.url, **config)
    logged = Predlog(app, **({"log": log} if log else {}))

    @app.get("/predict/<model>")
    def predict(model: Any) -> Any:
        assert logged.call is not None
        logged.call.metadata["rooms"] = 3
        return "1"

    @app.get("/fail")
    def fail() -> None:
        raise ValueError("below zero")

    @app.get("/stream")
    def stream() -> Any:
        def chunks() -> Iterator[Any]:
            for _ in range(3):
                time.sleep(0.03)
                yield "x"

        return flask.Response(chunks())

    return app


@pytest.fixture
def get(service: Service) -> Any:
    def get(path: Any, **config: Any) -> Any:
        app = make_app(service, **config)
        with app.test_client().get(path) as answer:
            status = answer.status_code
            assert answer.data
        log = app.extensions["predlog"].log
        assert log.close()
        return status, list(service.records.values())

    return get


def test_a_route_is_a_model_with_the_name_of_its_rule(get: Callable[..., Any]) -> None:
    status, [record] = get("/predict/price")
    assert status == 200 and record["model_name"] == "/predict/<model>" and record["metadata"] == {"rooms": 3}


def test_routes_name_models(get: Callable[..., Any]) -> None:
    _, [record] = get("/predict/price", PREDLOG_ROUTES={"/predict/<model>": "{model}"})
    assert record["model_name"] == "price"


def test_an_exception_is_logged_as_it_was(get: Callable[..., Any]) -> None:
    status, [record] = get("/fail")
    assert status == 500 and record["error"] == "ValueError: below zero"


def test_an_ignored_exception_leaves_no_record(get: Callable[..., Any]) -> None:
    status, records = get("/fail", PREDLOG_IGNORE_EXCEPTIONS=ValueError)
    assert status == 500 and not records


def test_is_failure_judges_an_exception_that_became_an_answer(get: Callable[..., Any]) -> None:
    status, [record] = get("/fail", PREDLOG_IS_FAILURE=lambda error: "zero" not in str(error))
    assert status == 500 and record["was_successful"]


def test_a_stream_is_timed_to_its_end(get: Callable[..., Any]) -> None:
    _, [record] = get("/stream")
    assert record["duration_ms"] >= 90


def test_a_path_without_a_route_is_not_logged(get: Callable[..., Any]) -> None:
    assert get("/none") == (404, [])


def test_an_answer_that_is_whole_ends_the_call_however_slowly_it_is_read(service: Service) -> None:
    app = make_app(service)
    answer = app.test_client().get("/predict/price")  # neither read nor closed
    assert app.extensions["predlog"].log.close() and len(service.records) == 1
    answer.close()


def test_options_may_be_wrong_only_at_the_start(service: Service) -> None:
    with pytest.raises(TypeError):
        make_app(service, PREDLOG_BATCHSIZE=1)
