"""One caller wants all there is: large answers that it does not read, lists that find nothing, idle connections."""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks import attacks
from faults.load import TIMEOUT, Load, count_again
from support.replication import PostgresServer
from support.service import running

MEGABYTE = 2**20
PREDICTIONS = 500_000
# The server closes idle connections by itself after 30 seconds.
HEALTH_TIMEOUT_S = 25


def dsn(server: PostgresServer) -> str:
    return server.url.replace("+psycopg2", "")


def test_large_answers_take_so_much_memory_at_most_read_or_not(
    server: PostgresServer, engine: str, tmp_path: Path, model: str, load_s: float
) -> None:
    attacks.fill(dsn(server), predictions=0)
    with (
        running(tmp_path, "--no-migrate", DATABASE_URL=server.url, AUTH="none", REQUEST_TIMEOUT_S="5") as service,
        Load(model, [service.port]) as load,
    ):
        load.go_on(load_s)
        with attacks.Memory(service.process.pid) as memory:
            statuses = attacks.read_all_at_once(service.port, attacks.LARGE_LIST, attacks.READERS)
            with attacks.unread(service.port, attacks.LARGE_LIST, attacks.UNREAD):
                load.go_on(load_s)
        kept_s = attacks.trickle(service.port, attacks.LARGE_LIST, TIMEOUT)
        moment = time.monotonic()
        load.go_on(load_s)
        name = f"large answers: memory grown by {memory.grown / MEGABYTE:.0f} MB, {engine}"
        count_again(name, load, server.url, service, moment)
        assert set(statuses) <= {200, 503}
        assert statuses[200] > 0
        assert memory.grown < 300 * MEGABYTE
        assert kept_s < TIMEOUT


def test_lists_that_find_nothing_keep_no_write_from_its_place(
    server: PostgresServer, engine: str, tmp_path: Path, model: str, load_s: float
) -> None:
    """A connection is waited for so shortly that a write would miss one that reads had taken."""
    attacks.fill(dsn(server), large=0, predictions=PREDICTIONS)
    limits = {"WORKERS": "1", "THREADS": "32", "POOL_SIZE": "8", "POOL_TIMEOUT_S": "0.2"}
    with (
        running(tmp_path, "--no-migrate", DATABASE_URL=server.url, AUTH="none", **limits) as service,
        Load(model, [service.port]) as load,
    ):
        load.go_on(load_s)
        with attacks.flood(service.port, attacks.SLOW_LIST, attacks.FLOOD):
            load.go_on(max(load_s, 3))
            assert service.request("GET", "/ready")[0] == 200
        moment = time.monotonic()
        load.go_on(load_s)
        count_again(f"64 connections of lists that find nothing, {engine}", load, server.url, service, moment)
        assert {answer.status for answer in load.answers} == {200}


def test_idle_connections_shut_nobody_out(
    server: PostgresServer, engine: str, tmp_path: Path, model: str, load_s: float
) -> None:
    with (
        running(tmp_path, "--no-migrate", DATABASE_URL=server.url, AUTH="none") as service,
        Load(model, [service.port]) as load,
    ):
        load.go_on(load_s)
        with attacks.idle(service.port, attacks.IDLE):
            assert None not in attacks.health(service.port, 10, HEALTH_TIMEOUT_S)
            load.go_on(load_s)
        moment = time.monotonic()
        load.go_on(load_s)
        count_again(f"{attacks.IDLE:,} idle connections, {engine}", load, server.url, service, moment)
