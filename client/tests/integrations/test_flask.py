"""The Flask extension."""

from __future__ import annotations

import time

import pytest

flask = pytest.importorskip("flask")

from predlog.integrations.flask import Predlog  # noqa: E402


def make_app(service, *, log=None, **config):
    app = flask.Flask("served")
    app.config.update(PREDLOG_URL=service.url, **config)
    logged = Predlog(app, **({"log": log} if log else {}))

    @app.get("/predict/<model>")
    def predict(model):
        logged.call.metadata["rooms"] = 3
        return "1"

    @app.get("/fail")
    def fail():
        raise ValueError("below zero")

    @app.get("/stream")
    def stream():
        def chunks():
            for _ in range(3):
                time.sleep(0.03)
                yield "x"

        return flask.Response(chunks())

    return app


@pytest.fixture
def get(service):
    def get(path, **config):
        app = make_app(service, **config)
        with app.test_client().get(path) as answer:
            status = answer.status_code
            assert answer.data
        log = app.extensions["predlog"].log
        assert log.close()
        return status, list(service.records.values())

    return get


def test_a_route_is_a_model_with_the_name_of_its_rule(get):
    status, [record] = get("/predict/price")
    assert status == 200 and record["model_name"] == "/predict/<model>" and record["metadata"] == {"rooms": 3}


def test_routes_name_models(get):
    _, [record] = get("/predict/price", PREDLOG_ROUTES={"/predict/<model>": "{model}"})
    assert record["model_name"] == "price"


def test_an_exception_is_logged_as_it_was(get):
    status, [record] = get("/fail")
    assert status == 500 and record["error"] == "ValueError: below zero"


def test_an_ignored_exception_leaves_no_record(get):
    status, records = get("/fail", PREDLOG_IGNORE_EXCEPTIONS=ValueError)
    assert status == 500 and not records


def test_is_failure_judges_an_exception_that_became_an_answer(get):
    status, [record] = get("/fail", PREDLOG_IS_FAILURE=lambda error: "zero" not in str(error))
    assert status == 500 and record["was_successful"]


def test_a_stream_is_timed_to_its_end(get):
    _, [record] = get("/stream")
    assert record["duration_ms"] >= 90


def test_a_path_without_a_route_is_not_logged(get):
    assert get("/none") == (404, [])


def test_an_answer_that_is_whole_ends_the_call_however_slowly_it_is_read(service):
    app = make_app(service)
    answer = app.test_client().get("/predict/price")  # neither read nor closed
    assert app.extensions["predlog"].log.close() and len(service.records) == 1
    answer.close()


def test_options_may_be_wrong_only_at_the_start(service):
    with pytest.raises(TypeError):
        make_app(service, PREDLOG_BATCHSIZE=1)
