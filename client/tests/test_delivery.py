"""Getting through to a service that misbehaves: everything arrives once, or is counted."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from email.utils import formatdate
from typing import Any

import pytest

import predlog
from misbehaving import Service, free_port, port_to_serve_at, wait_until
from predlog import Client


def log(client: predlog.Client, count: int, model: str = "m") -> None:
    for index in range(count):
        client.log(model, duration_ms=index, was_successful=True)


@pytest.mark.parametrize(
    "mood",
    ["reset", "store_and_reset", "store_and_half", "close", "page", 408, 429, 500, 502, 503, 504, 401, 403, 404, 301],
)
def test_whatever_the_service_does_every_record_is_stored_once(
    service: Service, make_client: Callable[..., Client], mood: str
) -> None:
    service.moods.extend([mood, "ok", mood, mood, "ok", mood])
    client = make_client(batch_size=10)
    log(client, 95)
    wait_until(lambda: len(service.records) == 95)
    assert client.flush()
    stats = client.stats()
    assert (stats.sent + stats.duplicates, stats.queued, stats.dropped) == (95, 0, {})
    assert (stats.duplicates > 0) == (sum(service.copies.values()) > 95)


def test_a_batch_whose_answer_was_lost_is_a_duplicate_that_the_service_sees(service: Service, client: Client) -> None:
    service.moods.extend(["store_and_reset", "store_and_half"])
    log(client, 5)
    assert client.flush()
    assert len(service.records) == 5 and max(service.copies.values()) == 3
    assert client.stats().sent + client.stats().duplicates == 5 and client.stats().duplicates > 0


def test_a_service_that_hangs_costs_the_time_out_and_nothing_else(
    service: Service, make_client: Callable[..., Client]
) -> None:
    service.moods.append("hang")
    client = make_client(timeout=0.2)
    log(client, 5)
    wait_until(lambda: len(service.records) == 5)


def test_the_connection_is_kept_alive(service: Service, make_client: Callable[..., Client]) -> None:
    client = make_client(batch_size=10)
    log(client, 100)
    assert client.flush()
    assert len(service.requests) >= 10
    assert len({request["client"] for request in service.requests}) == 1


def test_a_connection_closed_while_idle_is_replaced_without_a_failure(
    service: Service, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    service.mood = "close"
    for _ in range(3):
        log(client, 1)
        assert client.flush()
    assert len(service.records) == 3 and not caplog.records


def test_large_batches_are_compressed_and_small_ones_are_not(service: Service, client: Client) -> None:
    log(client, 1)
    assert client.flush()
    log(client, 200)
    assert client.flush()
    encodings = {request["count"]: request["headers"].get("Content-Encoding") for request in service.requests}
    assert encodings[1] is None and encodings[max(encodings)] == "gzip"


def test_a_batch_is_bounded_in_records_and_in_bytes(service: Service, make_client: Callable[..., Client]) -> None:
    client = make_client(batch_size=400)
    for _ in range(1000):
        client.log("m", duration_ms=1, was_successful=False, error="é" * 4000)
    assert client.flush(30)
    assert len(service.records) == 1000
    assert max(request["count"] for request in service.requests) <= 400
    assert max(request["bytes"] for request in service.requests) <= 1_100_000


def test_a_path_in_the_url_is_kept(service: Service, make_client: Callable[..., Client]) -> None:
    client = make_client(service.url + "/behind/a/proxy/")
    log(client, 1)
    assert client.flush()
    assert service.requests[0]["path"] == "/behind/a/proxy/api/v1/predict-logs"


def test_the_key_is_sent_as_a_bearer_token(service: Service, make_client: Callable[..., Client]) -> None:
    service.api_key = "right"
    client = make_client(api_key="right")
    log(client, 1)
    assert client.flush()


@pytest.mark.parametrize(
    "value", [lambda: "1", lambda: formatdate(time.time() + 2, usegmt=True)], ids=["seconds", "date"]
)
def test_retry_after_is_honoured_by_flush_too(service: Service, client: Client, value: Any) -> None:
    service.moods.append(lambda records, headers: (429, {"Retry-After": value()}))
    log(client, 1)
    wait_until(lambda: service.requests)
    assert not client.flush(0.1) or len(service.requests) == 2
    assert client.flush(30)
    first, second = service.requests
    assert second["at"] - first["at"] >= 0.9  # a date is whole seconds


def test_an_absurd_retry_after_is_read_as_ten_minutes_and_rubbish_as_none() -> None:
    from predlog.transport import _retry_after

    assert _retry_after("999999999") == 600
    assert _retry_after("-5") is None and _retry_after("soon") is None and _retry_after("") is None
    assert _retry_after("Thu, 01 Jan 1970 00:00:00 GMT") == 0


def test_flush_cuts_a_back_off_short(
    service: Service, make_client: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("predlog.delivery._jitter.uniform", lambda low, high: 60.0)
    service.moods.append(500)
    client = make_client()
    log(client, 1)
    wait_until(lambda: service.requests)
    assert client.flush(30)


def test_a_flush_that_waits_behind_a_batch_in_hand_counts_as_no_record(
    service: Service, make_client: Callable[..., Client]
) -> None:
    service.mood = 503
    client = make_client()
    log(client, 5)
    wait_until(lambda: service.requests)
    assert not client.flush(0.1)
    assert client.stats().queued == 5


def test_the_back_off_grows_and_is_drawn_at_random(
    make_client: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[float, float]] = []

    def draw(low: float, high: float) -> float:
        drawn.append((low, high))
        return 0.001

    monkeypatch.setattr("predlog.delivery._jitter.uniform", draw)
    with free_port() as port:
        client = make_client(f"http://127.0.0.1:{port}")
        log(client, 1)
        wait_until(lambda: len(drawn) >= 5)
    assert drawn[:5] == [(0, 0.02), (0, 0.04), (0, 0.08), (0, 0.1), (0, 0.1)]


def test_too_large_a_batch_is_halved_until_it_passes(service: Service, make_client: Callable[..., Client]) -> None:
    service.most_records = 30
    client = make_client(batch_size=100)
    log(client, 250)
    wait_until(lambda: len(service.records) == 250)
    assert client.stats().dropped == {}


def test_a_record_that_is_too_large_by_itself_is_rejected_and_the_rest_stored(service: Service, client: Client) -> None:
    service.most_records = 0
    log(client, 3)
    wait_until(lambda: client.stats().rejected == 3)
    service.most_records = 10
    log(client, 3)
    wait_until(lambda: len(service.records) == 3 and service.lost == 3)


def test_a_report_does_not_go_down_with_a_record_that_is_refused(
    service: Service, make_client: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = make_client(flush_interval=0.3)
    service.moods.extend([413])
    log(client, 1)
    client.log("", duration_ms=1, was_successful=True)  # a report that goes along
    wait_until(lambda: service.lost == 2)
    assert service.lost_by("model_name") == {"m": 1, "?": 1}


def test_a_batch_that_cannot_be_read_is_split_until_the_bad_record_is_alone(
    service: Service, make_client: Callable[..., Client]
) -> None:
    service.mood = lambda records, headers: 400 if any(record["duration_ms"] == 5 for record in records) else "ok"
    client = make_client()
    log(client, 20)
    wait_until(lambda: service.lost_by("reason") == {"rejected": 1})
    assert len(service.records) == 19


def test_reports_that_are_too_long_for_a_proxy_go_in_parts_and_hold_up_no_records(
    service: Service, make_client: Callable[..., Client]
) -> None:
    service.mood = lambda records, headers: 431 if len(headers.get("Predlog-Dropped", "")) > 400 else "ok"
    client = make_client(flush_interval=0.3)
    log(client, 5)
    for number in range(10):
        client.log(f"model {number}", duration_ms=-1, was_successful=True)
    wait_until(lambda: len(service.records) == 5 and service.lost == 10)


def test_a_report_that_makes_the_whole_batch_unreadable_goes_apart(
    service: Service, make_client: Callable[..., Client]
) -> None:
    service.mood = lambda records, headers: 400 if records and "Predlog-Dropped" in headers else "ok"
    client = make_client(flush_interval=0.3)
    log(client, 5)
    client.log("", duration_ms=1, was_successful=True)
    wait_until(lambda: len(service.records) == 5 and service.lost == 1)


def test_what_the_service_rejects_is_dropped_counted_and_reported(
    service: Service, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    service.refuse = lambda record: record["duration_ms"] % 2 == 1
    log(client, 20)
    wait_until(lambda: service.lost == 10)
    assert len(service.records) == 10
    assert client.stats().rejected == 10 and client.stats().sent == 10
    assert service.lost_by("model_name", "reason") == {("m", "rejected"): 10}
    assert "model_name" in caplog.text


def test_a_wrong_key_keeps_the_records_until_it_is_right(
    service: Service, make_client: Callable[..., Client], caplog: pytest.LogCaptureFixture
) -> None:
    service.api_key = "new"
    client = make_client(api_key="new")
    service.mood = 401
    log(client, 5)
    wait_until(lambda: len(service.requests) >= 3)
    service.mood = "ok"
    wait_until(lambda: len(service.records) == 5)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "API key" in caplog.text


def test_a_service_that_was_away_gets_all_that_was_logged_meanwhile(quick: None) -> None:
    port = port_to_serve_at()
    client = predlog.Client(f"http://127.0.0.1:{port}", flush_interval=0.05, batch_size=50)
    log(client, 500)
    assert not client.flush(0.3)
    service = Service(port)
    try:
        wait_until(lambda: len(service.records) == 500)
        assert client.stats().dropped == {}
    finally:
        client.close()
        service.stop()


def test_trouble_is_warned_of_once_and_its_end_told(
    service: Service, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    service.moods.extend(["reset", 500, 503, "reset"])
    log(client, 1)
    assert client.flush()
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


def test_records_that_waited_too_long_expire_and_are_counted(
    service: Service, make_client: Callable[..., Client]
) -> None:
    service.mood = 503
    client = make_client(max_age=0.3)
    log(client, 7)
    wait_until(lambda: client.stats().dropped.get("expired") == 7)
    service.mood = "ok"
    wait_until(lambda: service.lost_by("reason") == {"expired": 7})
    assert not service.records


@pytest.mark.parametrize("begins", ["X-Drips: ", "Content-Length: 100000\r\n\r\n"], ids=["head", "body"])
def test_an_answer_that_drips_is_given_up(make_client: Callable[..., Client], begins: str) -> None:
    import socket
    import threading

    listener = socket.create_server(("127.0.0.1", 0))
    connections = []

    def drip() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connections.append(connection)
            try:
                connection.sendall(f"HTTP/1.1 200 OK\r\n{begins}".encode())
                while True:
                    connection.sendall(b"x")
                    time.sleep(0.05)
            except OSError:
                pass

    threading.Thread(target=drip, daemon=True).start()
    client = make_client(f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=0.3)
    log(client, 1)
    wait_until(lambda: len(connections) >= 2)
    assert client.stats().queued == 1
    listener.close()
