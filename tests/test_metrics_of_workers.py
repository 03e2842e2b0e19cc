"""One scrape, which any worker answers, has what all of them counted; those that were killed leave nothing in use."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from conftest import Server
from support.figures import Figures
from support.service import Service, command_line, running

PREDICTIONS = 60
TIMEOUT = 60.0
RECORD = {"model_name": "workers", "duration_ms": 1, "was_successful": True}
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture
def service(servers: Callable[[str], Server], tmp_path: Path) -> Iterator[Service]:
    url = servers("plain").url
    with running(tmp_path, "--no-migrate", DATABASE_URL=url, AUTH="none", WORKERS="3", POOL_SIZE="2") as service:
        yield service


def scrape(service: Service) -> Figures:
    """Each on a connection of its own, so that it is any worker's answer."""
    with urllib.request.urlopen(f"http://127.0.0.1:{service.port}/metrics", timeout=TIMEOUT) as response:
        return Figures(response.read().decode())


def stored(figures: Figures) -> float:
    return figures("predlog_records_stored_total")


def users_of_pools(figures: Figures) -> set[str]:
    """The pids of the workers that have used their connections."""
    return {each["pid"] for each in figures.labels("predlog_pool_in_use")}


def log_predictions(service: Service) -> None:
    for _ in range(PREDICTIONS):
        assert service.request("POST", "/api/v1/predict-log", RECORD)[0] == 200


def workers(service: Service) -> list[int]:
    return [
        pid
        for pid in service.descendants()
        if any(part in command_line(pid) for part in (b"granian", b"multiprocessing"))
    ][1:]


@contextmanager
def nobody_may_write(url: str) -> Iterator[None]:
    engine = create_engine(url)
    try:
        with engine.begin() as connection:
            connection.exec_driver_sql("LOCK TABLE prediction_log IN SHARE MODE")
            yield
    finally:
        engine.dispose()


def test_whichever_worker_answers_it_tells_of_all(service: Service) -> None:
    log_predictions(service)
    logged, until = PREDICTIONS, time.monotonic() + TIMEOUT
    while len(users_of_pools(scrape(service))) < 2:  # the service is ready as soon as one worker is
        assert time.monotonic() < until
        assert service.request("POST", "/api/v1/predict-log", RECORD)[0] == 200
        logged += 1
    figures = [scrape(service) for _ in range(20)]
    assert {stored(each) for each in figures} == {logged}
    route = {"route": "/api/v1/predict-log", "status": "200", "method": "POST"}
    assert {each("predlog_http_request_duration_seconds_count", **route) for each in figures} == {logged}
    # Each worker has a pool, and only those that were asked have used it.
    assert 1 < len(users_of_pools(figures[-1])) <= 3
    assert figures[-1]("predlog_pool_in_use") <= 1


@linux_only
def test_what_killed_workers_counted_stays_and_what_they_used_does_not(service: Service) -> None:
    log_predictions(service)
    for _ in range(20):
        scrape(service)
    before = users_of_pools(scrape(service))
    assert {int(pid) for pid in before} <= set(workers(service))
    for pid in workers(service):
        os.kill(pid, signal.SIGKILL)
    time.sleep(1)
    service.wait_until_ready(TIMEOUT)
    log_predictions(service)
    until = time.monotonic() + TIMEOUT
    while before & users_of_pools(scrape(service)):
        assert time.monotonic() < until
        time.sleep(0.2)
    assert stored(scrape(service)) == 2 * PREDICTIONS


def test_scrapes_and_probes_are_answered_while_every_place_is_taken(
    servers: Callable[[str], Server], tmp_path: Path
) -> None:
    url = servers("plain").url
    with running(
        tmp_path, "--no-migrate",
        DATABASE_URL=url, AUTH="none", WORKERS="1", THREADS="2", POOL_SIZE="1", STATEMENT_TIMEOUT_MS="20000",
        LOCK_TIMEOUT_MS="20000",
    ) as service:  # fmt: skip
        callers = [
            threading.Thread(
                target=service.request, args=("POST", "/api/v1/predict-log", RECORD), kwargs={"timeout": TIMEOUT}
            )
            for _ in range(8)
        ]
        with nobody_may_write(url):
            for caller in callers:
                caller.start()
            until = time.monotonic() + TIMEOUT
            while scrape(service)("predlog_pool_in_use") != 1:
                assert time.monotonic() < until
                time.sleep(0.1)
            assert service.request("GET", "/health")[0] == 200
            assert any(caller.is_alive() for caller in callers), "or it was no test"
        for caller in callers:
            caller.join(TIMEOUT)
