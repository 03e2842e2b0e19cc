"""Clocks set back, of the service and its database, and of a caller, while all of them work."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import UUID, uuid4

import pytest

from faults.clock import Clock, why_not
from faults.load import TIMEOUT, Load, connect, count_again, statistics, stored_ids
from support.replication import PostgresServer
from support.service import ROOT, Service, clean_environment, running

MINUTES = 60
HOUR = 3600
MARKS = "SELECT invalidation_threshold, watermark, generation FROM prediction_stats_state"
PREDICTIONS = 2000
CALLER = """
import sys, time, predlog
url, spool, model, number = sys.argv[1:]
log = predlog.Client(url, spool_dir=spool, batch_size=50, flush_interval=0.1)
for n in range(int(number)):
    log.log(model, duration_ms=1, was_successful=True)
    if n % 20 == 0:
        print(n, flush=True)
        sys.stdin.readline()
assert log.flush(60), log.stats
log.close()
"""


@pytest.fixture
def clock(public_folder: Path) -> Clock:
    if reason := why_not():
        pytest.skip(reason)
    return Clock(public_folder)


@dataclass
class Scene:
    """A service and its database, of one clock."""

    service: Service
    server: PostgresServer
    engine: str
    clock: Clock
    admin: str
    other: str

    def call(self, method: str, path: str, body: Any = None, key: str | None = None) -> tuple[int, Any]:
        return self.service.request(method, f"/api/v1/{path}", body, TIMEOUT, {"X-API-Key": key or self.admin})

    def count(self, model: str) -> int:
        """What /stats counts up to the true time; the service's own "now" may be long past."""
        end = quote((now() + timedelta(minutes=10)).isoformat())
        return int(self.call("GET", f"stats?model_name={model}&to_date={end}")[1]["total_requests"])

    def query(self, statement: str) -> list[Any]:
        with closing(connect(self.server.url)) as connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def marks(self) -> Any:
        """Return the invalidation threshold and the watermark, after a run of the job."""
        if self.engine == "timescale":
            self.query("CALL prediction_stats_job(0, '{}')")
        return self.query(MARKS)[0]


@pytest.fixture
def rate_limit() -> str:
    """No limit, unless a test overrides this."""
    return "0"


@pytest.fixture
def scene(
    server: PostgresServer, engine: str, tmp_path: Path, clock: Clock, rate_limit: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Scene]:
    server.stop()
    with monkeypatch.context() as environment:
        for name, value in clock.environment.items():
            environment.setenv(name, value)
        server.start()
    admin, other = (_make_key(server.url, name) for name in ("admin", "other"))
    limit = {"RATE_LIMIT": rate_limit, "RATE_BURST": "10"}
    settings = {"DATABASE_URL": server.url, **limit, **clock.environment}
    with running(tmp_path, "--no-migrate", **settings) as service:
        yield Scene(service, server, engine, clock, admin, other)


def _make_key(url: str, name: str) -> str:
    return _flask(url, "keys", "create", "--scope", "admin", "--name", name).strip()


def _flask(url: str, *arguments: str) -> str:
    return subprocess.run(
        [sys.executable, "-m", "flask", "--app", "wsgi", *arguments],
        cwd=ROOT, env=clean_environment(DATABASE_URL=url), check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip


def record(model: str, at: datetime | None) -> dict[str, Any]:
    body = {"model_name": model, "duration_ms": 1, "was_successful": True}
    return body if at is None else {**body, "timestamp": at.isoformat(), "request_id": str(uuid4())}


def now() -> datetime:
    """The true time, by which the test and its callers live."""
    return datetime.now(timezone.utc)


def not_earlier(marks: Any, than: Any) -> bool:
    """Whether no mark has gone back."""
    return all(mark >= before for mark, before in zip(marks, than))


def test_a_clock_that_is_set_back_breaks_nothing(scene: Scene, model: str, load_s: float) -> None:
    key = {"X-API-Key": scene.admin}
    with Load(model, [scene.service.port], key) as load:
        load.go_on(load_s)
        before = scene.marks()
        scene.clock.set_by(-4 * MINUTES)  # callers are now ahead, by less than the tolerance
        moment = time.monotonic()
        load.go_on(load_s)
        count_again(f"clock set back by 4 minutes, {scene.engine}", load, scene.server.url, scene.service, moment, key)
    after = scene.marks()
    assert not_earlier(after, before)
    stored = scene.count(model)

    scene.clock.set_by(-HOUR)
    status, answer = scene.call("POST", "predict-log", record(model, now()))
    assert status == 422
    assert answer["errors"]["json"] == {"timestamp": ["Must not be more than five minutes in the future."]}
    theirs = now() - timedelta(hours=1)
    for at in (theirs + timedelta(minutes=4), theirs - timedelta(hours=30), None):
        status, answer = scene.call("POST", "predict-log", record(model, at))
        assert status == 200
    told = datetime.fromisoformat(answer["timestamp"])
    assert abs(told - theirs) < timedelta(minutes=5), "where the caller says nothing it is the service's clock"
    assert not_earlier(scene.marks(), after)
    assert scene.count(model) == stored + 3

    scene.clock.set_by(0)
    assert not_earlier(scene.marks(), after)
    assert scene.count(model) == stored + 3


@pytest.mark.parametrize("rate_limit", ["2"])
def test_keys_and_rate_limits_do_not_go_by_the_time_of_day(scene: Scene) -> None:
    def ask() -> int:
        return scene.call("GET", "models", key=scene.other)[0]

    def wait_for(status: int) -> None:
        until = time.monotonic() + TIMEOUT
        while ask() != status:
            assert time.monotonic() < until

    wait_for(429)
    scene.clock.set_by(-HOUR)
    time.sleep(3)  # 6 calls are due again by then
    assert [ask() for _ in range(5)] == [200] * 5
    wait_for(429)
    listed = [line.split() for line in _flask(scene.server.url, "keys", "list").splitlines()]
    (number,) = [line[0] for line in listed if "other" in line]
    _flask(scene.server.url, "keys", "revoke", number)
    wait_for(401)
    assert scene.call("GET", "models")[0] == 200


def test_a_caller_whose_clock_is_set_back_repeats_no_identifier(
    server: PostgresServer, engine: str, tmp_path: Path, clock: Clock, model: str
) -> None:
    with running(tmp_path, "--no-migrate", DATABASE_URL=server.url, AUTH="none") as service:
        environment = {**os.environ, **clock.environment, "PYTHONPATH": str(ROOT / "client/src")}
        command = [sys.executable, "-c", CALLER, f"http://127.0.0.1:{service.port}", str(tmp_path / "spool"), model]
        with subprocess.Popen(
            [*command, str(PREDICTIONS)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        ) as caller:
            assert caller.stdin and caller.stdout
            for number in caller.stdout:
                # To and fro: the same minute comes many times.
                clock.set_by(-(int(number) // 20 % 4) * MINUTES)
                caller.stdin.write("\n")
        assert caller.returncode == 0
        stored = stored_ids(server.url, model)
        assert len(stored) == PREDICTIONS
        assert set(stored.values()) == {1}
        assert {UUID(id).version for id in stored} == {7}
        assert statistics(service, model)["total_requests"] == PREDICTIONS
        print(f"\nFIGURES | a caller's clock set to and fro, {engine} | {PREDICTIONS} | 0 | 0 | 0 | 0 | – | – |")
