"""What the caller of a model sees: nothing of the log, whatever happens."""

from __future__ import annotations

import logging
import math
import threading
import time
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, cast

import pytest

import predlog
from conftest import threads_of_clients
from misbehaving import Service, free_port, wait_until
from predlog import Client
from predlog.transport import Answer, Transport


def test_a_logged_call_arrives_with_all_it_was_given(service: Service, client: Client) -> None:
    client.log(
        "apartment_price",
        duration_ms=12.5,
        was_successful=False,
        version="3",
        error="no such street",
        metadata={"rooms": 3},
    )
    assert client.flush()
    (record,) = service.records.values()
    assert uuid.UUID(record.pop("request_id")).version == 7
    assert abs(datetime.fromisoformat(record.pop("timestamp")).timestamp() - time.time()) < 30
    assert record == {
        "model_name": "apartment_price",
        "duration_ms": 12.5,
        "was_successful": False,
        "model_version": "3",
        "error": "no such street",
        "metadata": {"rooms": 3},
    }


def test_a_time_and_an_identifier_of_the_callers_own_are_kept(service: Service, client: Client) -> None:
    moment = datetime(2025, 6, 9, 14, 0, 0, 123456, tzinfo=timezone(timedelta(hours=2)))
    identifier = uuid.uuid4()
    for timestamp in (moment, datetime(2025, 6, 9, 12, 0, 0, 123456)):
        client.log("m", duration_ms=124, was_successful=True, timestamp=timestamp, request_id=identifier)
    assert client.flush()
    assert list(service.records) == [(str(identifier), "2025-06-09T12:00:00.123456+00:00")]
    assert '"duration_ms":124,' in str(service.records.values()).replace("'", '"').replace(": ", ":").replace(", ", ",")


def test_whole_durations_stay_whole(service: Service, client: Client) -> None:
    client.log("m", duration_ms=124, was_successful=True)
    assert client.flush()
    (record,) = service.records.values()
    assert type(record["duration_ms"]) is int


def test_logging_while_the_server_is_away_neither_waits_nor_raises(
    make_client: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    asking: list[threading.Thread] = []
    post = Transport.post

    def noted(*arguments: Any) -> Answer:
        asking.append(threading.current_thread())
        return post(*arguments)

    monkeypatch.setattr(Transport, "post", noted)
    with free_port() as port:
        client = make_client(f"http://127.0.0.1:{port}", queue_size=100)
        for _ in range(10_000):
            client.log("m", duration_ms=1, was_successful=True)
        wait_until(lambda: asking)
        assert threading.current_thread() not in asking
        wait_until(lambda: client.stats().queued + client.stats().dropped["queue_full"] == 10_000)


def test_the_queue_is_bounded_and_keeps_room_for_failures(service: Service, make_client: Callable[..., Client]) -> None:
    service.mood = "hang"
    client = make_client(queue_size=100)
    client.log("in hand", duration_ms=1, was_successful=True)
    wait_until(lambda: service.requests)
    for _ in range(500):
        client.log("m", duration_ms=1, was_successful=True)
    assert client.stats().queued == 1 + 90
    for _ in range(500):
        client.log("m", duration_ms=1, was_successful=False)
    assert client.stats().queued == 1 + 100
    assert client.stats().dropped == {"queue_full": 900}


def test_threads_that_log_at_the_same_time_lose_nothing_without_count(
    service: Service, make_client: Callable[..., Client]
) -> None:
    client = make_client(queue_size=500, batch_size=100)

    def work() -> None:
        for _ in range(2000):
            client.log("m", duration_ms=1, was_successful=True)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait_until(lambda: len(service.records) + service.lost == 16_000)
    wait_until(lambda: client.stats().sent == len(service.records))
    assert client.stats().dropped.get("queue_full", 0) == service.lost


@pytest.mark.parametrize(
    "wrong",
    [
        {"duration_ms": "fast"},
        {"duration_ms": -1},
        {"duration_ms": math.nan},
        {"duration_ms": 10**400},
        {"duration_ms": True},
        {"was_successful": "False"},
        {"was_successful": None},
        {"timestamp": "yesterday"},
        {"timestamp": 1e300},
    ],
    ids=str,
)
def test_a_value_that_cannot_be_logged_is_counted_and_never_raised(
    service: Service, client: Client, caplog: pytest.LogCaptureFixture, wrong: Any
) -> None:
    client.log("m", **{"duration_ms": 1, "was_successful": True, **wrong})
    wait_until(lambda: service.lost == 1)
    (report,) = service.reports.values()
    assert (report["model_name"], report["reason"]) == ("m", "rejected")
    assert client.stats().rejected == 1
    assert next(iter(wrong)) in caplog.text


@pytest.mark.parametrize("name", ["", "n" * 201, None, 7, ["list"]], ids=repr)
def test_a_name_that_cannot_be_logged_is_counted_too(service: Service, client: Client, name: str) -> None:
    client.log(name, duration_ms=1, was_successful=True)
    wait_until(lambda: service.lost == 1)


def test_a_mistake_is_warned_of_once_and_without_the_value(
    service: Service, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(50):
        client.log(
            "m", duration_ms=cast(Any, "secret-payload"), was_successful=True, metadata={"pin": "secret-payload"}
        )
    wait_until(lambda: service.lost == 50)
    assert len(caplog.records) == 1
    assert "secret" not in caplog.text


def test_neither_payload_nor_key_reaches_a_log_or_a_repr(
    service: Service, make_client: Callable[..., Client], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    service.moods.extend(["reset", 500, 401, (429, {"Retry-After": "0"}), 400, 400])
    service.refuse = lambda record: record["model_name"] == "no"
    client = make_client(api_key="secret-key", batch_size=2)
    client.log("no", duration_ms=1, was_successful=False, error="secret-payload", metadata={"a": "secret-payload"})
    client.log("yes", duration_ms=1, was_successful=False, error="secret-payload", metadata={"a": "secret-payload"})
    wait_until(lambda: len(service.records) + service.lost == 2)
    assert "records wait for the service" in caplog.text
    assert "secret" not in caplog.text + repr(client) + str(client.stats())


def test_a_dict_changed_after_the_call_is_logged_as_it_was(
    service: Service, make_client: Callable[..., Client]
) -> None:
    client = make_client(flush_interval=0.3)
    metadata = {"rooms": 3}
    client.log("m", duration_ms=1, was_successful=True, metadata=metadata)
    metadata["rooms"] = 4
    assert client.flush()
    (record,) = service.records.values()
    assert record["metadata"] == {"rooms": 3}


def test_a_disabled_client_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    clients = [predlog.Client(enabled=False)]
    monkeypatch.setenv("PREDLOG_DISABLED", "1")
    clients.append(predlog.Client())
    for client in clients:
        with client.context(user="u"), client.track("m") as call:
            call.metadata["a"] = 1
        client.start("m").finish()
        client.log("m", duration_ms=1, was_successful=True)
        assert client.flush() and client.close()
        assert client.stats() == predlog.Stats()


def test_url_and_key_come_from_the_environment(service: Service, monkeypatch: pytest.MonkeyPatch, quick: None) -> None:
    service.api_key = "from-the-environment"
    monkeypatch.setenv("PREDLOG_URL", service.url + "/")
    monkeypatch.setenv("PREDLOG_API_KEY", "from-the-environment")
    with predlog.Client() as client:
        client.log("m", duration_ms=1, was_successful=True)
    assert len(service.records) == 1


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({}, "PREDLOG_URL"),
        ({"url": "logs:8000"}, "http://"),
        ({"url": "ftp://logs"}, "http://"),
        ({"url": "http://"}, "host"),
        ({"url": "http://user:secret@logs"}, "api_key"),
        ({"url": "http://logs/?a=b"}, "query"),
        ({"url": "http://logs:99999"}, "URL"),
        ({"url": "http://lo gs"}, "space"),
        ({"url": "http://logs", "api_key": "a\nsecret"}, "api_key"),
        ({"url": "http://logs", "queue_size": 0}, "queue_size"),
        ({"url": "http://logs", "batch_size": 10_001}, "batch_size"),
        ({"url": "http://logs", "flush_interval": 0}, "flush_interval"),
        ({"url": "http://logs", "timeout": math.inf}, "timeout"),
        ({"url": "http://logs", "exit_timeout": -1}, "exit_timeout"),
        ({"url": "http://logs", "spool_max_bytes": 10}, "spool_max_bytes"),
    ],
    ids=str,
)
def test_a_wrong_setting_stops_the_program_at_its_start(options: Any, word: Any) -> None:
    with pytest.raises(ValueError, match=word) as raised:
        predlog.Client(**options)
    assert "secret" not in str(raised.value)


def test_a_thread_that_the_system_refuses_is_tried_again(
    service: Service, make_client: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = make_client()
    start = threading.Thread.start

    def refuse(thread: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    client.log("m", duration_ms=1, was_successful=True)
    assert client.stats().queued == 1
    monkeypatch.setattr(threading.Thread, "start", start)

    def logged_twice() -> bool:
        client.log("m", duration_ms=1, was_successful=True)
        return len(service.records) > 1

    wait_until(logged_twice)


def test_a_client_that_is_forgotten_sends_what_it_has_and_ends_its_threads(service: Service, quick: None) -> None:
    client = predlog.Client(service.url, flush_interval=60)
    before = {thread for thread in threading.enumerate() if thread.name.startswith("predlog")}
    client.log("m", duration_ms=1, was_successful=True)
    mine = [t for t in threading.enumerate() if t.name.startswith("predlog") and t not in before]
    assert len(mine) == 1
    del client
    wait_until(lambda: len(service.records) == 1 and not mine[0].is_alive())


@pytest.mark.parametrize("spooling", [False, True], ids=["memory", "spool"])
def test_flush_after_close_waits_for_nobody(
    service: Service, make_client: Callable[..., Client], tmp_path: Path, spooling: Any
) -> None:
    client = make_client(**({"spool_dir": tmp_path} if spooling else {}))
    client.log("m", duration_ms=1, was_successful=True)
    assert client.close(30) and client.flush(60)
    service.mood = 503
    client = make_client(**({"spool_dir": tmp_path} if spooling else {}))
    client.log("m", duration_ms=1, was_successful=True)
    client.close(0.1)
    wait_until(lambda: not threads_of_clients())
    assert client.flush(60) is not spooling  # in memory it is counted as dropped; in the spool it still waits


def test_a_flush_that_waits_while_the_client_is_closed_ends_with_it(
    service: Service, make_client: Callable[..., Client]
) -> None:
    service.mood = 503
    client = make_client()
    client.log("m", duration_ms=1, was_successful=True)
    wait_until(lambda: service.requests)
    flushing = threading.Thread(target=client.flush, args=(3600,), daemon=True)
    flushing.start()
    client.close(0.1)
    flushing.join(60)
    assert not flushing.is_alive()


def test_records_logged_after_close_are_dropped_and_counted(service: Service, client: Client) -> None:
    client.close()
    client.log("m", duration_ms=1, was_successful=True)
    assert client.stats().dropped == {"closed": 1}
    assert client.close()
