"""The database restarted, killed, or paused under load: 503 meanwhile, and the service serves again by itself."""

from __future__ import annotations

import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from faults import processes
from faults.load import TIMEOUT, Load, count_again
from support.replication import PostgresServer
from support.service import running

MEGABYTE = 2**20


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["restarted", "killed"])
def test_a_database_that_was_restarted_is_found_again(
    server: PostgresServer, engine: str, tmp_path: Path, model: str, load_s: float, number: signal.Signals
) -> None:
    with (
        running(tmp_path, "--no-migrate", DATABASE_URL=server.url, AUTH="none") as service,
        Load(model, [service.port]) as load,
    ):
        load.go_on(load_s)
        rest = processes.children(processes.postmaster(server.folder))
        server.stop(number)
        processes.wait_until_gone(*rest)  # until then their memory keeps the next server from starting
        load.wait_until_refused(time.monotonic())
        moment = time.monotonic()
        server.start()
        load.go_on(load_s)
        how = "restarted (fast shutdown)" if number == signal.SIGINT else "killed whole, started again"
        count_again(f"PostgreSQL {how}, {engine}", load, server.url, service, moment)


def test_while_the_database_is_paused_every_call_is_answered(
    server: PostgresServer, engine: str, tmp_path: Path, model: str, load_s: float
) -> None:
    """Neither the server's own time-outs nor TCP can tell that it hangs."""
    limits = {"STATEMENT_TIMEOUT_MS": "1000", "LOCK_TIMEOUT_MS": "500", "POOL_TIMEOUT_S": "0.5"}
    with (
        running(
            tmp_path, "--no-migrate", DATABASE_URL=server.url, AUTH="none", THREADS="2", POOL_SIZE="2", **limits
        ) as service,
        Load(model, [service.port]) as load,
    ):
        load.go_on(load_s)
        before = processes.memory(service)
        with ThreadPoolExecutor() as others, processes.paused(processes.postmaster(server.folder)):
            began = time.monotonic()
            asked = [
                others.submit(service.request, "GET", path, timeout=TIMEOUT)
                for path in ("/ready", f"/api/v1/stats?model_name={model}")
            ]
            load.wait_until_refused(began)
            assert [question.result()[0] for question in asked] == [503, 503]
            while True:
                assert service.request("GET", "/health", timeout=TIMEOUT)[0] == 200
                if time.monotonic() - began > load_s:
                    break
                time.sleep(0.2)
            grown = processes.memory(service) - before
            paused_s = time.monotonic() - began
        moment = time.monotonic()
        load.go_on(load_s)
        count_again(f"PostgreSQL paused for {paused_s:.0f} s, {engine}", load, server.url, service, moment)
        assert grown < 100 * MEGABYTE
