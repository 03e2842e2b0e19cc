"""GET /api/v1/alerts and /api/v1/alerts/history, and `flask alerts`"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Engine
from structlog.testing import capture_logs

from app.application.alerts import Alerts
from app.commands import extensions
from app.domain.keys import Scope
from app.infrastructure.alerts.store import PostgresAlertStore
from app.presentation.services import services
from conftest import Server, make_app
from support.alerts import errors_of, forget_alerts, write_alerts
from support.receiver import Receiver, receiving

ALERTS, HISTORY = "/api/v1/alerts", "/api/v1/alerts/history"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def watching(
    server: Server, database: Engine, tmp_path: Path, receiver: Receiver, model: str
) -> Iterator[Callable[..., Flask]]:
    """An application that watches all models whose names begin with that of the test's own."""
    if not server.concurrent:
        pytest.skip("one session for all")
    forget_alerts(database)
    file = write_alerts(tmp_path, receiver, errors_of(f"{model}*"))
    yield lambda **settings: make_app(server.service_url, alerts_file=file, database_direct_url=server.url, **settings)
    forget_alerts(database)


def log_failures(app: Flask, *models: str) -> None:
    for model in models:
        record = {"model_name": model, "duration_ms": 1, "was_successful": False}
        assert app.test_client().post("/api/v1/predict-logs", json=[record] * 20).status_code == 200


def evaluate(app: Flask) -> None:
    alerts: Alerts = app.extensions[extensions.ALERTS][0]
    alerts.evaluate(alerts.every * 0)


def test_without_a_file_there_are_no_alerts(app: Flask) -> None:
    assert app.test_client().get(ALERTS).json == {"enabled": False, "rules": []}
    assert app.test_client().get(HISTORY).json == []


def test_each_rule_has_its_worst_state_and_each_model_its_own(watching: Callable[..., Flask], model: str) -> None:
    app = watching()
    client = app.test_client()
    (rule,) = client.get(ALERTS).json["rules"]
    assert (rule["name"], rule["state"], rule["alerts"]) == ("errors", None, [])
    assert rule["condition"] == "error rate in 1 hour above 10 %"
    log_failures(app, f"{model}-a")
    client.post("/api/v1/predict-log", json={"model_name": f"{model}-b", "duration_ms": 1, "was_successful": True})
    evaluate(app)
    (rule,) = client.get(ALERTS).json["rules"]
    assert rule["state"] == "firing"
    assert [(alert["model_name"], alert["state"], alert["value"]) for alert in rule["alerts"]] == [
        (f"{model}-a", "firing", 1),
        (f"{model}-b", "ok", 0),
    ]
    assert "20 of 20 predictions" in rule["alerts"][0]["measured"] and rule["alerts"][0]["since"].endswith("+00:00")
    (named,) = client.get(ALERTS, query_string={"model_name": f"{model}-b"}).json["rules"]
    assert (named["state"], len(named["alerts"])) == ("ok", 1)


def test_a_rule_that_fits_too_many_models_says_how_many_it_leaves_out(
    watching: Callable[..., Flask], model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.application.alerts.MAX_MODELS", 2)
    app = watching()
    log_failures(app, *(f"{model}-{letter}" for letter in "abcde"))
    with capture_logs() as lines:
        evaluate(app)
        evaluate(app)
    assert [(line["rule"], line["number"]) for line in lines if line["event"] == "models left out"] == [("errors", 3)]
    (rule,) = app.test_client().get(ALERTS).json["rules"]
    assert rule["models_left_out"] == 3
    assert [alert["model_name"] for alert in rule["alerts"]] == [f"{model}-a", f"{model}-b"]


def test_the_alerts_can_be_read_while_rules_are_measured_and_a_slow_webhook_gets_a_message(
    watching: Callable[..., Flask], model: str
) -> None:
    app = watching(pool_timeout_s=0.1)
    alerts: Alerts = app.extensions[extensions.ALERTS][0]
    log_failures(app, model)
    evaluate(app)
    store = alerts._store
    assert isinstance(store, PostgresAlertStore)
    with store.turn(timedelta()) as turn, store.due() as message:
        assert turn is not None and message is not None
        assert app.test_client().get(ALERTS).status_code == 200


def test_the_history_goes_back_page_by_page(watching: Callable[..., Flask], model: str) -> None:
    app = watching()
    names = [f"{model}-{letter}" for letter in "abc"]
    log_failures(app, *names)
    evaluate(app)
    client, path, seen = app.test_client(), f"{HISTORY}?limit=2", []
    while path:
        response = client.get(path)
        seen += [event["model_name"] for event in response.json]
        link = response.headers.get("Link", "")
        path = f"{HISTORY}{link.partition('<')[2].partition('>')[0]}" if link else ""
    assert sorted(seen) == names
    assert client.get(HISTORY, query_string={"rule": "another"}).json == []
    (event,) = client.get(HISTORY, query_string={"model_name": names[0]}).json
    assert event["state"] == "firing" and event["messages"][0]["webhook"] == "team"


def test_a_key_that_is_bound_to_models_is_told_of_no_others(
    watching: Callable[..., Flask], database: Engine, model: str
) -> None:
    app = watching(auth="keys")
    with app.app_context():
        keys = services().keys
        key, sent = keys.create("bound", Scope.READ, [f"{model}-a"])
        writer, writes = keys.create("writer", Scope.WRITE)
    records = [
        {"model_name": f"{model}-{n}", "duration_ms": 1, "was_successful": False} for n in "ab" for _ in range(20)
    ]
    client = app.test_client()
    assert client.post("/api/v1/predict-logs", json=records, headers={"X-API-Key": writes}).status_code == 200
    evaluate(app)
    for path in (ALERTS, HISTORY):
        response = client.get(path, headers={"X-API-Key": sent})
        assert response.status_code == 200
        assert f"{model}-a" in response.text and f"{model}-b" not in response.text and f"{model}*" not in response.text
        assert path != ALERTS or response.json["rules"][0]["models_left_out"] is None
        refused = client.get(path, query_string={"model_name": f"{model}-b"}, headers={"X-API-Key": sent})
        assert refused.status_code == 403
    with database.connect() as connection:
        connection.exec_driver_sql("DELETE FROM api_key WHERE id IN (%s, %s)", (key.id, writer.id))


@pytest.mark.parametrize("query", [{"limit": "0"}, {"limit": "201"}, {"cursor": "x"}, {"cursor": "0"}, {"rule": "\0"}])
def test_what_makes_no_sense_is_refused(app: Flask, query: dict[str, str]) -> None:
    assert app.test_client().get(HISTORY, query_string=query).status_code == 422


def test_the_commands_check_evaluate_list_and_try(
    watching: Callable[..., Flask], receiver: Receiver, tmp_path: Path, model: str
) -> None:
    app = watching()
    log_failures(app, model)
    run: Any = app.test_cli_runner().invoke
    for arguments in (["check"], ["check", str(tmp_path / "alerts.toml")]):
        checked = run(args=["alerts", *arguments])
        assert checked.exit_code == 0 and "1 rules, webhooks: team." in checked.output
    evaluated = run(args=["alerts", "run"])
    assert f"firing: errors, {model}: error rate 100 %" in evaluated.output
    assert "1 events, 1 messages accepted." in evaluated.output
    assert "firing" in run(args=["alerts", "list"]).output
    assert "team has accepted the message." in run(args=["alerts", "test", "team"]).output
    assert receiver.accepted[-1][1]["text"].startswith("FIRING: test")
    receiver.moods = [500]
    refused = run(args=["alerts", "test", "team"])
    assert (refused.exit_code, refused.output) == (1, "Error: team has not accepted the message. It answered 500.\n")
    assert run(args=["alerts", "test", "nobody"]).exit_code == 1


def test_without_a_file_the_commands_say_so(app: Flask, tmp_path: Path) -> None:
    run: Any = app.test_cli_runner().invoke
    for command in ("check", "list", "run"):
        assert run(args=["alerts", command]).output == "Error: No alerts: ALERTS_FILE is not set.\n"
    (tmp_path / "bad.toml").write_text("x = 1")
    assert "x: Unknown field" in run(args=["alerts", "check", str(tmp_path / "bad.toml")]).output
