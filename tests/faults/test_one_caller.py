"""One caller against the others: absurd reports, bodies that cost much, stolen request ids, bodies that are cut."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from app.domain.dropped import MAX_COUNT
from benchmarks.bodies import DEEP, UNKNOWN
from faults.load import TIMEOUT, Load, connect, count_again
from support.replication import PostgresServer
from support.service import Service, running

BATCH = "/api/v1/predict-logs"
CALLERS = 8
REPORTS = 30
OTHER_TIMES = "SELECT request_id::text, timestamp FROM prediction_log WHERE model_name = %s LIMIT 500"

Running = tuple[Service, Load]


@pytest.fixture
def under_load(server: PostgresServer, tmp_path: Path, model: str, load_s: float) -> Iterator[Running]:
    """A service that the callers of the load use all the time."""
    with (
        running(tmp_path, "--no-migrate", DATABASE_URL=server.url, AUTH="none") as service,
        Load(model, [service.port]) as load,
    ):
        load.go_on(load_s)
        yield service, load


def finish(name: str, running: Running, server: PostgresServer, load_s: float) -> None:
    service, load = running
    moment = time.monotonic()
    load.go_on(load_s)
    count_again(name, load, server.url, service, moment)


def stats(service: Service, query: str) -> dict[str, Any]:
    status, answer = service.request("GET", f"/api/v1/stats?{query}")
    assert status == 200, answer
    return dict(answer)


def test_absurd_reports_change_no_figure_of_another_model_and_can_be_removed(
    under_load: Running, server: PostgresServer, engine: str, model: str, load_s: float
) -> None:
    service, _ = under_load
    left_out, today = 0, datetime.now(timezone.utc).strftime("%Y-%m-%dT00:00:00Z")  # one minute for all of them
    for _ in range(REPORTS):
        report = {
            "id": str(uuid4()), "model_name": "liar", "reason": "expired", "count": MAX_COUNT,
            "timestamp": today,
        }  # fmt: skip
        status, answer = service.request("POST", "/api/v1/dropped", [report])
        assert status == 200, answer
        left_out += answer["left_out"]
        assert service.request("POST", "/api/v1/dropped", [{**report, "count": 10**12}])[0] == 422
    assert left_out == (REPORTS - 1) * MAX_COUNT
    assert stats(service, "")["dropped"] == MAX_COUNT
    assert (stats(service, f"model_name={model}")["dropped"], stats(service, "model_name=liar")["dropped"]) == (
        0, MAX_COUNT
    )  # fmt: skip
    assert service.request("DELETE", "/api/v1/dropped?model_name=liar")[1] == {"reports": REPORTS, "dropped": MAX_COUNT}
    assert stats(service, "")["completeness"] == 1
    finish(f"{REPORTS} absurd reports, {engine}", under_load, server, load_s)


CHEAP = {
    "deep": f"[{','.join([DEEP] * 4000)}]",
    "unknown": f"[{','.join([f'{{{UNKNOWN}}}'] * 10_000)}]",
    "empty": f"[{','.join(['{}'] * 10_000)}]",
    "blank": " " * (15 << 20),
}


@contextmanager
def flooded(service: Service, answers: Counter[int]) -> Iterator[None]:
    """Callers that send cheap bodies again and again, for as long as the block lasts."""
    ending = threading.Event()
    bodies = [gzip.compress(body.encode(), 9) for body in CHEAP.values()]
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}

    def send(caller: int) -> None:
        while not ending.is_set():
            with closing(http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)) as connection:
                connection.request("POST", BATCH, bodies[caller % len(bodies)], headers)
                answers[connection.getresponse().status] += 1

    threads = [threading.Thread(target=send, args=(caller,)) for caller in range(CALLERS)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ending.set()
        for thread in threads:
            thread.join()


def test_cheap_bodies_keep_nobody_from_logging(
    under_load: Running, server: PostgresServer, engine: str, load_s: float
) -> None:
    service, load = under_load
    answers = Counter[int]()
    with flooded(service, answers):
        load.go_on(max(load_s, 3))
        load.wait_until(lambda: answers[413] > 0)
        assert service.request("GET", "/ready")[0] == 200
    assert set(answers) <= {400, 413, 503}
    finish(f"{CALLERS} callers of cheap bodies, {engine}", under_load, server, load_s)


def test_request_ids_of_another_model_give_nothing_away_and_suppress_nothing(
    under_load: Running, server: PostgresServer, engine: str, model: str, load_s: float
) -> None:
    service, _ = under_load
    with closing(connect(server.url)) as connection, connection.cursor() as cursor:
        cursor.execute(OTHER_TIMES, (model,))
        stolen = [
            {
                "model_name": "thief", "duration_ms": 1, "was_successful": True,
                "request_id": request_id, "timestamp": timestamp.isoformat(),
            }
            for request_id, timestamp in cursor.fetchall()
        ]  # fmt: skip
    assert len(stolen) > 10
    for record in stolen[:20]:
        status, answer = service.request("POST", "/api/v1/predict-log", record)
        assert (status, set(answer)) == (409, {"code", "status", "errors"}), answer
        assert model not in json.dumps(answer)
    new = {"model_name": "thief", "duration_ms": 1, "was_successful": True}
    status, answer = _until_taken(service, [*stolen, new])
    assert (status, answer["stored"], answer["duplicates"]) == (207, 1, 0)
    assert [rejected["index"] for rejected in answer["rejected"]] == list(range(len(stolen)))
    assert stats(service, "model_name=thief")["total_requests"] == 1
    finish(f"{len(stolen)} stolen request ids, {engine}", under_load, server, load_s)


def _until_taken(service: Service, records: list[dict[str, Any]]) -> tuple[int, Any]:
    """Send a batch again while the load has all permits."""
    while (answer := service.request("POST", BATCH, records, timeout=60))[0] == 503:
        time.sleep(0.1)
    return answer


RECORD = b'{"model_name":"cut","duration_ms":1,"was_successful":true}\n'
NDJSON, CHUNKED = b"Content-Type: application/x-ndjson\r\n", b"Transfer-Encoding: chunked\r\n\r\n"
CHUNK = b"%x\r\n%s\r\n" % (len(RECORD), RECORD)
# What comes, and whether the caller then says that no more does.
CUT = [
    (NDJSON + CHUNKED + CHUNK, True),
    (NDJSON + CHUNKED + CHUNK + b"xyz\r\n", False),
    (NDJSON + CHUNKED + CHUNK + b"0\r\n\r\n", False),
    (NDJSON + b"Content-Length: 1000\r\n\r\n" + RECORD, True),
]


def cut_off(service: Service, request: bytes, hang_up: bool) -> int:
    """Send the beginning of a batch; the status of the answer."""
    with socket.create_connection(("127.0.0.1", service.port), timeout=60) as connection:
        connection.sendall(b"POST %s HTTP/1.1\r\nHost: localhost\r\n%s" % (BATCH.encode(), request))
        if hang_up:
            connection.shutdown(socket.SHUT_WR)
        return int(connection.recv(12).split()[1])


def call_after_a_refusal(service: Service) -> int:
    """Send a body that is refused before it is read, and a batch on the same connection; the status of the latter."""
    with closing(http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)) as connection:
        for content_type, body in (("text/plain", "x" * 100_000), ("application/json", "[]")):
            connection.request("POST", BATCH, body, {"Content-Type": content_type})
            response = connection.getresponse()
            response.read()
            assert connection.sock, "the service has closed the connection"
    return response.status


def test_cut_bodies_store_nothing_and_refused_ones_break_no_connection(
    under_load: Running, server: PostgresServer, engine: str, load_s: float
) -> None:
    service, _ = under_load
    answers, after = Counter[int](), Counter[int]()
    began = time.monotonic()
    # While other batches have all permits, a cut one is put off.
    while (lasted := time.monotonic() - began) < load_s or (not answers[400] and lasted < TIMEOUT):
        answers.update(cut_off(service, *cut) for cut in CUT)
        after[call_after_a_refusal(service)] += 1
    assert answers[400]
    assert set(answers) <= {400, 503}, "503 while other batches have all permits"
    assert set(after) <= {200, 503}
    assert stats(service, "model_name=cut")["total_requests"] == 0
    finish(f"{answers[400]} cut bodies, {engine}", under_load, server, load_s)
