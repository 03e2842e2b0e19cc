"""Alerts of real services: several instances, killed at the worst moment, told to a receiver that fails."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from faults import clock
from flask_migrate import upgrade

from conftest import Server, make_app
from support.alerts import errors_of, write_alerts
from support.receiver import HANG_UP, Receiver, receiving
from support.scratch import empty_database
from support.service import ROOT, Service, clean_environment

FAILED = {"model_name": "m", "duration_ms": 1, "was_successful": False}
Start = Callable[..., Service]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def start(servers: Callable[[str], Server], tmp_path: Path, receiver: Receiver) -> Iterator[Start]:
    """Start another instance on the same database; it evaluates every second. The engine makes no difference here."""
    server = servers("plain")
    file = write_alerts(tmp_path, receiver, errors_of("m"))
    services: list[Service] = []
    with ExitStack() as stack:
        url = stack.enter_context(empty_database(server))

        def start() -> Service:
            folder = tmp_path / f"instance-{len(services)}"
            folder.mkdir()
            settings = {"DATABASE_URL": url, "ALERTS_FILE": str(file), "AUTH": "none", "WORKERS": "1"}
            services.append(Service(folder, options=None, **settings))
            services[-1].wait_until_ready()
            return services[-1]

        yield start
        for service in services:
            if service.process.poll() is None:
                service.stop()


def kill(service: Service) -> None:
    """Kill every process of an instance at once."""
    for pid in [service.process.pid, *service.descendants()]:
        with suppress(ProcessLookupError):  # one may have ended by itself, or with another
            os.kill(pid, signal.SIGKILL)
    service.process.wait()


def wait(until: Callable[[], Any], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end
        time.sleep(0.05)


def is_delivered(service: Service) -> bool:
    """Whether the service knows that the receiver has accepted the message of the newest event."""
    return bool(service.request("GET", "/api/v1/alerts/history")[1][0]["messages"][0]["delivered_at"])


def test_two_instances_tell_of_a_breach_once_and_of_its_end_once(start: Start, receiver: Receiver) -> None:
    one, other = start(), start()
    assert one.request("POST", "/api/v1/predict-logs", [FAILED] * 20)[0] == 200
    receiver.wait_for(1)
    assert other.request("POST", "/api/v1/predict-logs", [{**FAILED, "was_successful": True}] * 400)[0] == 200
    receiver.wait_for(2)
    time.sleep(3)
    assert receiver.texts == ["FIRING", "Resolved"] and len(receiver.attempts) == 2
    for service in (one, other):
        (rule,) = service.request("GET", "/api/v1/alerts")[1]["rules"]
        assert rule["state"] == "resolved"
        assert [event["state"] for event in service.request("GET", "/api/v1/alerts/history")[1]] == [
            "resolved",
            "firing",
        ]
        assert service.stop() == 0
        assert "s3cret" not in service.log


def test_an_instance_killed_while_it_sends_leaves_the_message_to_the_next_one(start: Start, receiver: Receiver) -> None:
    first = start()
    receiver.moods, receiver.delay_s = [HANG_UP], 60.0
    assert first.request("POST", "/api/v1/predict-logs", [FAILED] * 20)[0] == 200
    wait(lambda: receiver.attempts)
    kill(first)
    receiver.delay_s = 0.0
    assert receiver.accepted == [], "the state is committed, the message is not sent"
    second = start()
    receiver.wait_for(1)
    wait(lambda: is_delivered(second))
    time.sleep(2)
    assert receiver.texts == ["FIRING"] and len(set(receiver.attempts)) == 1
    (event,) = second.request("GET", "/api/v1/alerts/history")[1]
    assert event["state"] == "firing"


def test_an_alert_keeps_its_state_over_a_restart(start: Start, receiver: Receiver) -> None:
    first = start()
    assert first.request("POST", "/api/v1/predict-logs", [FAILED] * 20)[0] == 200
    receiver.wait_for(1)
    wait(lambda: is_delivered(first))
    since = first.request("GET", "/api/v1/alerts")[1]["rules"][0]["alerts"][0]["since"]
    assert first.stop() == 0
    second = start()
    before = second.request("GET", "/api/v1/alerts")[1]["rules"][0]["alerts"][0]["evaluated_at"]
    wait(lambda: second.request("GET", "/api/v1/alerts")[1]["rules"][0]["alerts"][0]["evaluated_at"] > before)
    alert = second.request("GET", "/api/v1/alerts")[1]["rules"][0]["alerts"][0]
    assert (alert["state"], alert["since"]) == ("firing", since)
    assert len(receiver.attempts) == 1


def test_a_file_that_cannot_be_used_stops_the_start_with_a_sentence(tmp_path: Path) -> None:
    file = tmp_path / "alerts.toml"
    file.write_text("[[rule]]\nname = 'x'\n")
    service = Service(tmp_path, ALERTS_FILE=str(file), DATABASE_URL="postgresql://nobody@127.0.0.1:1/nowhere")
    assert service.process.wait(120) == 2
    assert "rule 1 (x): measure: Must be one of" in service.log and "Traceback" not in service.log


@pytest.mark.skipif(clock.why_not() is not None, reason=str(clock.why_not()))
@pytest.mark.parametrize("hours", [-2, 2])
def test_an_instance_whose_clock_is_wrong_measures_the_same(
    servers: Callable[[str], Server], tmp_path: Path, receiver: Receiver, hours: int
) -> None:
    file = write_alerts(tmp_path, receiver, errors_of("m"))
    wrong = clock.Clock(tmp_path)
    wrong.set_by(hours * 3600)
    with empty_database(servers("plain")) as url:
        app = make_app(url, pool_size=2)
        with app.app_context():
            upgrade()
        assert app.test_client().post("/api/v1/predict-logs", json=[FAILED] * 20).status_code == 200
        done = subprocess.run(
            [sys.executable, "-m", "flask", "--app", "wsgi", "alerts", "run"],
            env=clean_environment(**wrong.environment, DATABASE_URL=url, ALERTS_FILE=str(file)),
            cwd=ROOT, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        app.extensions["predlog"].predictions._store._database.engine.dispose()
    assert "firing: errors, m: error rate 100 % (20 of 20 predictions in 1 hour)" in done.stdout, done.stderr
    assert receiver.texts == ["FIRING"]
