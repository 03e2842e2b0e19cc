"""What Citus costs: batches and questions on its nodes, and in turn on one node with the engine plain.

    [TEST_CITUS_URL=postgresql://…] python -m benchmarks.citus [--seconds 10] [--shards 4] [--models 20] [--days 3]

TEST_CITUS_URL names a coordinator whose role may create databases on all nodes; without it a coordinator and two
workers are started from a PostgreSQL on this machine that has Citus. The engine plain has a database on the
coordinator, so both have the same server and settings. Each row of the tables takes `--seconds`, of both engines in
turn, after both were filled alike. CPU time is read from the system's clocks, of the service and of the servers that
were started here: it hardly depends on what else the machine does, unlike the time that passes. All nodes are on the
same cores, so this shows what Citus costs, not what more machines gain.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import secrets
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from urllib.parse import urlencode
from uuid import uuid4

from sqlalchemy import make_url

from app.infrastructure.maintenance.engines import maintenance
from app.infrastructure.postgres.database import Database
from benchmarks.common import connect, free_port, migrate, running
from benchmarks.row_cost import _cpu, _family
from examples.processes import NO_DATABASE

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from support.databases import citus
from support.databases.citus import Cluster, execute

MIN_ROUNDS = 5
RECENT = timedelta(minutes=20)
BATCHES = (
    ("10 of one model", 10, 1),
    ("100 of one model", 100, 1),
    ("500 of one model", 500, 1),
    ("10,000 of one model", 10_000, 1),
    ("10,000 of {models} models", 10_000, None),
)
# As docs/scaling.md has them.
SETTINGS = (
    "citus.shard_count = {shards}",
    "citus.max_adaptive_executor_pool_size = 1",
    "citus.node_connection_timeout = '3s'",
    "max_parallel_workers_per_gather = 0",
)


@dataclass
class Side:
    """An engine with its service, and the processes whose CPU time counts with that of all that descend from them."""

    name: str
    dsn: str
    connection: http.client.HTTPConnection
    processes: list[int]

    def request(self, method: str, path: str, body: bytes | None = None) -> None:
        """Send a request and read the answer. Ends the command if it fails."""
        self.connection.request(method, f"/api/v1/{path}", body, {"Content-Type": "application/json"} if body else {})
        response = self.connection.getresponse()
        answer = response.read()
        if response.status != 200:
            raise SystemExit(f"{self.name}: {response.status}: {answer[:500]!r}")

    def cpu(self) -> dict[int, float]:
        """The CPU seconds of each process so far."""
        return {pid: _cpu(pid) for process in self.processes for pid in _family(process)}


def main() -> None:
    """Measure, print tables in Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10, help="how long each row of the tables is measured")
    parser.add_argument("--shards", type=int, default=4, help="how many shards Citus has")
    parser.add_argument("--models", type=int, default=20, help="how many models there are")
    parser.add_argument("--days", type=int, default=3, help="how many days are filled")
    parser.add_argument("--calls", type=int, default=200_000, help="how many predictions they are filled with")
    arguments = parser.parse_args()
    if not os.environ.get("TEST_CITUS_URL") and citus.programs() is None:
        raise SystemExit("TEST_CITUS_URL is not set, and no PostgreSQL on this machine has Citus.")
    models = [f"model-{number}" for number in range(arguments.models)]
    with ExitStack() as stack:
        nodes = stack.enter_context(_nodes())
        sides = _sides(nodes, arguments.shards, stack)
        print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.0f}, Python {sys.version.split()[0]}, "
              f"{len(nodes.nodes) - 1} workers, {arguments.shards} shards\n", flush=True)  # fmt: skip
        for filled in range(0, arguments.calls, 10_000):
            body = _batch(10_000, models, timedelta(days=arguments.days))
            for side in sides:
                side.request("POST", "predict-logs", body)
            _progress(f"filled {filled + 10_000:,} of {arguments.calls:,}")
        _report_sizes(sides, filled + 10_000, len(models) * arguments.days * 24 * 60)
        _report_batches(sides, models, arguments.seconds)
        _report_questions(sides, models, arguments.days, arguments.seconds)


def _report_sizes(sides: list[Side], predictions: int, minutes: int) -> None:
    """Print what predictions take on disk, with indexes, as `lifecycle show` has it; each model has so many minutes."""
    sizes = [{"log": 0, "rollups": 0} for _ in sides]
    for side, size in zip(sides, sizes):
        for relation in maintenance(Database(side.dsn)).overview().relations:
            size["log" if relation.name == "prediction_log" else "rollups"] += relation.size
    print("\n| bytes | plain | citus |\n|---|---:|---:|")
    for title, what, number in (
        ("the log, a prediction", "log", predictions),
        (f"the rollups, a model's minute of {predictions / minutes:.3g} predictions", "rollups", minutes),
    ):
        print(f"| {title} | {sizes[0][what] / number:,.0f} | {sizes[1][what] / number:,.0f} |", flush=True)


def _report_batches(sides: list[Side], models: list[str], seconds: float) -> None:
    print("\n| batches | plain, predictions a second | citus | citus ÷ plain | plain, CPU µs a prediction | citus |")
    print("|---|---:|---:|---:|---:|---:|")
    for title, size, number in BATCHES:
        name = title.format(models=len(models))
        _progress(f"batches of {name}")
        took, cpu = zip(*_in_turn(sides, partial(_poster, size, models[:number]), seconds))
        print(f"| {name} | {size / took[0]:,.0f} | {size / took[1]:,.0f} | {took[0] / took[1]:.2f} "
              f"| {cpu[0] / size * 1e6:,.0f} | {cpu[1] / size * 1e6:,.0f} |", flush=True)  # fmt: skip


def _report_questions(sides: list[Side], models: list[str], days: int, seconds: float) -> None:
    now = datetime.now(timezone.utc)

    def cut(**query: object) -> dict[str, object]:
        """Another range each time, so that no answer comes from a cache."""
        begin = now - timedelta(days=days - 1, seconds=random.uniform(0, 3000))
        return {
            **query,
            "from": begin.isoformat(),
            "to": (now - timedelta(seconds=random.uniform(0, 3000))).isoformat(),
        }

    one = {"model_name": models[0]}
    no = {"percentiles": ""}
    questions: list[tuple[str, Callable[[], str]]] = [
        ("one model, whole range", lambda: f"stats?{urlencode(one | no)}"),
        ("one model, cut to the second", lambda: f"stats?{urlencode(cut(**one, **no))}"),
        ("the same, percentiles", lambda: f"stats?{urlencode(cut(**one))}"),
        ("all models, whole range", lambda: f"stats?{urlencode(no)}"),
        ("all models, cut to the second", lambda: f"stats?{urlencode(cut(**no))}"),
        ("the same, percentiles", lambda: f"stats?{urlencode(cut())}"),
        ("each model, cut to the second", lambda: f"stats?{urlencode(cut(group_by='model_name', **no))}"),
        ("the list of models", lambda: "models"),
    ]
    print("\n| questions | plain, p50 ms | citus | citus ÷ plain | plain, CPU ms | citus |")
    print("|---|---:|---:|---:|---:|---:|")
    for name, question in questions:
        _progress(f"questions about {name}")
        took, cpu = zip(*_in_turn(sides, partial(_asker, question), seconds))
        print(f"| {name} | {took[0] * 1e3:.1f} | {took[1] * 1e3:.1f} | {took[1] / took[0]:.2f} "
              f"| {cpu[0] * 1e3:.1f} | {cpu[1] * 1e3:.1f} |", flush=True)  # fmt: skip


def _poster(size: int, models: list[str]) -> Callable[[Side], None]:
    body = _batch(size, models, RECENT)
    return lambda side: side.request("POST", "predict-logs", body)


def _asker(question: Callable[[], str]) -> Callable[[Side], None]:
    path = question()
    return lambda side: side.request("GET", path)


def _in_turn(
    sides: list[Side], make: Callable[[], Callable[[Side], None]], seconds: float
) -> list[tuple[float, float]]:
    """Have all sides do the same work in turn. Return the median seconds and the mean CPU seconds of each side."""
    took: list[list[float]] = [[] for _ in sides]
    used = [0.0 for _ in sides]
    deadline = time.monotonic() + seconds
    rounds = 0
    while time.monotonic() < deadline or rounds < MIN_ROUNDS:
        work = make()
        for place in ((0, 1), (1, 0))[rounds % 2]:
            side = sides[place]
            before, began = side.cpu(), time.perf_counter()
            work(side)
            took[place].append(time.perf_counter() - began)
            used[place] += sum(seconds - before.get(pid, 0.0) for pid, seconds in side.cpu().items())
        rounds += 1
    return [(statistics.median(times), cpu / rounds) for times, cpu in zip(took, used)]


def _batch(size: int, models: list[str], within: timedelta) -> bytes:
    now = datetime.now(timezone.utc)
    return json.dumps([
        {
            "model_name": random.choice(models),
            "timestamp": (now - random.random() * within).isoformat(),
            "duration_ms": random.lognormvariate(3, 1),
            "was_successful": random.random() < 0.98,
            "request_id": str(uuid4()),
        }
        for _ in range(size)
    ]).encode()  # fmt: skip


@contextmanager
def _nodes() -> Iterator[Cluster]:
    if url := os.environ.get("TEST_CITUS_URL"):
        yield citus.cluster_of(url)
        return
    with citus.cluster() as nodes:
        yield nodes


def _sides(nodes: Cluster, shards: int, stack: ExitStack) -> list[Side]:
    """Make a database for each engine, and start a service on each."""
    coordinator = nodes.nodes[0].url
    servers = [pid for node in nodes.nodes if node.server and (pid := node.server.pid)]
    plain, spread = (f"predlog_{engine}_{secrets.token_hex(4)}" for engine in ("plain", "citus"))
    execute(coordinator, f"CREATE DATABASE {plain} TEMPLATE template0")
    stack.callback(execute, coordinator, f"DROP DATABASE {plain} WITH (FORCE)")
    stack.callback(nodes.drop_database, spread)
    url = make_url(nodes.make_database(spread))
    for setting in SETTINGS:
        execute(url, f"ALTER DATABASE {spread} SET {setting.format(shards=shards)}")
    sides = []
    for name, database in (("plain", plain), ("citus", spread)):
        dsn = coordinator.set(drivername="postgresql", database=database).render_as_string(hide_password=False)
        migrate(dsn)
        with connect(dsn) as connection:
            cursor = connection.cursor()
            cursor.execute("SELECT engine FROM prediction_stats_state")
            assert cursor.fetchone() == (name,)
        port = free_port()
        environment = {**os.environ, **NO_DATABASE, "DATABASE_URL": dsn, "PORT": str(port), "WORKERS": "1",
                       "AUTH": "none", "MAX_NEW_MODELS_PER_DAY": "0"}  # fmt: skip
        command = [sys.executable, "-m", "app", "--no-migrate"]
        process = stack.enter_context(running(command, environment, port, "/ready"))
        sides.append(
            Side(name, dsn, http.client.HTTPConnection("127.0.0.1", port, timeout=60), [process.pid, *servers])
        )
    return sides


def _progress(text: str) -> None:
    print(f"\r{text:60}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
