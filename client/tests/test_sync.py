"""Mode sync: sent by the thread that logs, with no threads of ours."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from conftest import Program, threads_of_clients
from misbehaving import Service, free_port
from predlog import Client


@pytest.fixture
def client(make_client: Callable[..., Client]) -> Any:
    return make_client(mode="sync", flush_interval=60)


def test_a_record_is_stored_when_log_returns_and_no_thread_is_started(service: Service, client: Client) -> None:
    for count in range(1, 4):
        with client.track("m"):
            pass
        assert len(service.records) == count
    assert not threads_of_clients()
    assert client.stats().sent == 3 and client.close()


def test_what_could_not_be_sent_is_sent_with_the_next_call(service: Service, client: Client) -> None:
    service.moods.extend([503, 503, "reset"])
    for _ in range(2):
        client.log("m", duration_ms=1, was_successful=True)
    assert not service.records and client.stats().queued == 2
    client.log("m", duration_ms=-1, was_successful=True)
    client.log("m", duration_ms=1, was_successful=True)
    assert len(service.records) == 3 and service.lost == 1 and set(service.copies.values()) == {1}


def test_retry_after_holds_calls_back_but_not_flush(service: Service, client: Client) -> None:
    service.moods.append((429, {"Retry-After": "600"}))
    for _ in range(20):
        client.log("m", duration_ms=1, was_successful=True)
    assert len(service.requests) == 1 and client.stats().queued == 20
    assert client.flush() and len(service.records) == 20


def test_the_first_call_after_retry_after_sends_what_waits(
    service: Service, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.moods.append((429, {"Retry-After": "600"}))
    client.log("m", duration_ms=1, was_successful=True)
    monotonic = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: monotonic() + 700)
    client.log("m", duration_ms=1, was_successful=True)
    assert len(service.records) == 2


def test_a_service_that_is_away_or_hangs_holds_a_call_up_no_longer_than_the_timeout(
    service: Service, make_client: Callable[..., Client]
) -> None:
    with free_port() as port:
        away = make_client(f"http://127.0.0.1:{port}", mode="sync")
        away.log("m", duration_ms=1, was_successful=True)
    assert not away.flush(0.1) and away.stats().queued == 1
    service.mood = "hang"
    client = make_client(mode="sync", timeout=0.2)
    began = time.monotonic()
    client.log("m", duration_ms=1, was_successful=True)
    assert time.monotonic() - began < 20


def test_threads_that_log_at_once_lose_nothing(service: Service, client: Client) -> None:
    def work() -> None:
        for index in range(20):
            client.log("m", duration_ms=index, was_successful=True)

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert client.flush() and len(service.records) == 100 and set(service.copies.values()) == {1}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_forks_and_ends_of_processes_lose_nothing(program: Program, service: Service) -> None:
    service.moods.append(503)
    program.run("""
        import os, predlog
        log = predlog.Client(mode="sync")
        log.log("waits", duration_ms=1, was_successful=True)
        pid = os.fork()
        log.log("child" if pid == 0 else "parent", duration_ms=1, was_successful=True)
        if pid:
            assert os.waitpid(pid, 0)[1] == 0
            log.log("parent", duration_ms="fast", was_successful=True)
    """)
    assert service.models == {"waits": 1, "child": 1, "parent": 1} and service.lost == 1
    assert not os.listdir(os.environ["PREDLOG_LEDGER_DIR"])
