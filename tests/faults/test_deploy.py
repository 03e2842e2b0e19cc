"""A deploy: one instance is told to end while another takes over, under load."""

from __future__ import annotations

import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from datetime import datetime, timezone
from pathlib import Path
from uuid import uuid4

from faults.load import TIMEOUT, Load, connect, count_again, stored_ids
from support.replication import PostgresServer
from support.service import Service, running

IN_FLIGHT_S = 3
GRACE_S = 35.0  # docker-compose.yml's stop_grace_period
INSERT = """
INSERT INTO prediction_log (timestamp, model_name, duration_ms, was_successful, request_id)
VALUES (%s, 'deploy', 1, true, %s)
"""
WAITERS = "SELECT count(*) FROM pg_locks WHERE locktype = 'transactionid' AND NOT granted"


class Readiness:
    """What an instance answers to /ready, asked as often as a busy load balancer would."""

    def __init__(self, service: Service) -> None:
        self.seen: list[tuple[float, int]] = []
        self._service = service
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        with suppress(OSError):
            while True:
                self.seen.append((time.monotonic(), self._service.request("GET", "/ready", timeout=TIMEOUT)[0]))
                time.sleep(0.02)

    def wait_for(self, status: int) -> float:
        """When it was answered first."""
        until = time.monotonic() + TIMEOUT
        while True:
            for moment, seen in list(self.seen):
                if seen == status:
                    return moment
            assert time.monotonic() < until and self._thread.is_alive(), self.seen[-5:]
            time.sleep(0.01)


def listens(port: int) -> bool:
    with closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_for_a_waiter(url: str) -> None:
    """Wait until a transaction waits for the end of another one."""
    until = time.monotonic() + TIMEOUT
    with closing(connect(url)) as connection, connection.cursor() as cursor:
        while True:
            cursor.execute(WAITERS)
            if cursor.fetchone() != (0,):
                return
            assert time.monotonic() < until, "the request does not wait"
            time.sleep(0.05)


def test_a_deploy_loses_nothing_and_cuts_nobody_off(
    server: PostgresServer, engine: str, public_folder: Path, model: str, load_s: float
) -> None:
    settings = {"DATABASE_URL": server.url, "AUTH": "none", "SHUTDOWN_DELAY_S": "5", "LOCK_TIMEOUT_MS": "60000"}
    folders = [public_folder / "old", public_folder / "new"]
    for folder in folders:
        folder.mkdir()
    slow = {"model_name": "deploy", "duration_ms": 1, "was_successful": True, "request_id": str(uuid4()),
            "timestamp": datetime.now(timezone.utc).isoformat()}  # fmt: skip
    with (
        running(folders[0], "--no-migrate", **settings) as old,
        running(folders[1], "--no-migrate", **settings) as new,
        Load(model, [old.port, new.port]) as load,
        closing(connect(server.url)) as holder,
        ThreadPoolExecutor() as pool,
    ):
        load.go_on(load_s)
        readiness = Readiness(old)
        readiness.wait_for(200)
        holder.autocommit = False
        with holder.cursor() as cursor:  # a request with the same id waits for the end of this transaction
            cursor.execute(INSERT, (slow["timestamp"], slow["request_id"]))
        in_flight = pool.submit(old.request, "POST", "/api/v1/predict-log", slow, TIMEOUT)
        wait_for_a_waiter(server.url)
        moment = time.monotonic()
        old.process.send_signal(signal.SIGTERM)
        unready = readiness.wait_for(503)
        assert listens(old.port), "who has not seen it yet is still served"
        until = time.monotonic() + TIMEOUT
        while listens(old.port):
            assert time.monotonic() < until
            time.sleep(0.02)
        closed = time.monotonic()
        time.sleep(IN_FLIGHT_S)
        assert not in_flight.done()
        holder.rollback()
        status, stored = in_flight.result(TIMEOUT)
        assert (status, stored["request_id"]) == (200, slow["request_id"])
        assert old.process.wait(GRACE_S) == 0
        ended = time.monotonic()
        load.go_on(load_s)
        count_again(f"deploy (two instances), {engine}", load, server.url, new, moment)
    served = [answer for answer in load.answers if answer.status == 200 and unready < answer.began < closed]
    assert served, "between the two it went on to serve"
    assert ended - moment < GRACE_S
    assert stored_ids(server.url, "deploy") == {slow["request_id"]: 1}
    print(
        f"/ready 503 after {unready - moment:.2f} s, closed after {closed - moment:.2f} s, ended after "
        f"{ended - moment:.2f} s, of which a call in flight took {IN_FLIGHT_S} s; "
        f"without an answer: {dict(load.silences)}"
    )
