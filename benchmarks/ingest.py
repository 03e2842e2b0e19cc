"""The speed of writes: batches against COPY, single predictions against the design that Predlog began as.

    [DATABASE_URL=postgresql://…] python -m benchmarks.ingest [--engine plain] [--rounds 5]

DATABASE_URL names a TimescaleDB server on this machine whose role may create databases; without it, or with `--engine
plain`, an embedded PostgreSQL is started. Both sides of a comparison run in turn, round by round, on the same server,
and each figure is the median of the rounds.

Batches: the same rows (fresh ones each time) go into the same table, with its triggers and indexes, by COPY and
through the service. Single predictions: the same requests go to the service and to `peers/seed`, with as many workers,
each with a database of its own on the same server. The peer's packages (`peers/requirements.txt`) are installed into
`peers/.venv` the first time.
"""

from __future__ import annotations

import argparse
import gzip
import http.client
import io
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg2
from sqlalchemy.engine import URL, make_url

from benchmarks.common import connect, database, free_port, migrate, running, server, service

BATCH = 10_000
PEERS = Path(__file__).parent / "peers"
SINGLE = {
    "model_name": "apartment_price_v1",
    "duration_ms": 124,
    "was_successful": True,
    "timestamp": "2025-06-09T12:00:00",
}

COPY = """
COPY prediction_log (timestamp, model_name, model_version, duration_ms, was_successful, error, metadata, request_id)
FROM STDIN
"""
SEED_TABLE = """
CREATE TABLE prediction_logs (
    id              serial            PRIMARY KEY,
    model_name      varchar           NOT NULL,
    duration_ms     double precision  NOT NULL,
    was_successful  boolean           NOT NULL,
    timestamp       timestamp         NOT NULL
);
CREATE INDEX ix_prediction_logs_model_name ON prediction_logs (model_name)
"""

Figures = dict[str, list[float]]


def main() -> None:
    """Measure, print tables in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = "timescale" if os.environ.get("DATABASE_URL") else "plain"
    parser.add_argument("--engine", choices=["timescale", "plain"], default=default)
    parser.add_argument("--rounds", type=int, default=5, help="how often all is measured")
    parser.add_argument("--batches", type=int, default=6, help="batches of each kind and round")
    parser.add_argument("--seconds", type=float, default=5, help="how long single predictions are sent, by round")
    parser.add_argument("--connections", type=int, default=16, help="keep-alive connections of the single predictions")
    parser.add_argument("--workers", type=int, default=2, help="worker processes of the service and of its peer")
    parser.add_argument("--only", choices=["batches", "single"], help="one of the two")
    arguments = parser.parse_args()
    print(f"{os.cpu_count()} cores, Python {sys.version.split()[0]}, engine {arguments.engine}, ", end="")
    print(f"{arguments.workers} workers, {arguments.rounds} rounds\n", flush=True)
    with server(arguments.engine) as admin, database(admin, "predlog_ingest") as dsn:
        migrate(dsn)
        with service(dsn, arguments.workers) as port:
            if arguments.only != "single":
                _report_batches(_batches(dsn, port, arguments))
            if arguments.only != "batches":
                _report_single(_single(admin, port, arguments), arguments)


def _batches(dsn: str, port: int, arguments: argparse.Namespace) -> Figures:
    """Return the rows a second, by method and number of connections."""
    figures: Figures = defaultdict(list)
    ways: dict[str, tuple[Callable[[list[Any]], Any], Callable[[int], Callable[[Any], None]]]] = {
        "COPY": (_copy_text, lambda _: _copier(dsn)),
        "batches": (_json, lambda _: _poster(port)),
        "batches, gzip": (lambda rows: gzip.compress(_json(rows), 6), lambda _: _poster(port, "gzip")),
    }
    for round in range(arguments.rounds + 1):
        for connections in (1, 2):
            for way, (encode, sender) in ways.items():
                work = [encode(_rows()) for _ in range(arguments.batches)]
                took = _timed(work, [sender(i) for i in range(connections)])
                if round:  # the first one warms up
                    figures[f"{way}/{connections}"].append(BATCH * len(work) / took)
        print(f"\rbatches: round {round} of {arguments.rounds}", end="", file=sys.stderr)
    print(file=sys.stderr)
    return figures


def _timed(work: list[Any], senders: list[Callable[[Any], None]]) -> float:
    """Return the seconds until the senders, side by side, have sent all work."""

    def send_share(i: int) -> None:
        for piece in work[i :: len(senders)]:
            senders[i](piece)

    with ThreadPoolExecutor(len(senders)) as pool:
        began = time.perf_counter()
        list(pool.map(send_share, range(len(senders))))
        return time.perf_counter() - began


def _rows(spread: timedelta = timedelta(seconds=2), ago: timedelta = timedelta()) -> list[dict[str, Any]]:
    """Predictions of 20 models, `ago` ago: log-normal durations, one of fifty fails, every second has metadata."""
    now = datetime.now(timezone.utc) - ago
    rows = []
    for i in range(BATCH):
        model, failed = random.randrange(20), random.random() < 0.02
        timestamp = now - spread * (BATCH - i) / BATCH
        row: dict[str, Any] = {
            "model_name": f"model_{model}",
            "model_version": f"2026.{model % 3}",
            "duration_ms": round(random.lognormvariate(3 + model / 5, 0.5), 3),
            "was_successful": not failed,
            "timestamp": timestamp.isoformat(),
            "request_id": str(_uuid7(timestamp)),
        }
        if failed:
            row["error"] = "ValueError: Input contains NaN, infinity or a value too large for dtype('float32')."
        if i % 2:
            row["metadata"] = {"rooms": random.randrange(1, 6), "city": "Санкт-Петербург", "score": random.random()}
        rows.append(row)
    return rows


def _uuid7(timestamp: datetime) -> UUID:
    """RFC 9562: 48 bits of milliseconds, version, variant, the rest random."""
    milliseconds = int(timestamp.timestamp() * 1000)
    number = milliseconds << 80 | 7 << 76 | random.getrandbits(12) << 64 | 2 << 62 | random.getrandbits(62)
    return UUID(int=number)


def _json(rows: list[dict[str, Any]]) -> bytes:
    return json.dumps(rows, ensure_ascii=False, separators=(",", ":")).encode()


def _copy_text(rows: list[dict[str, Any]]) -> str:
    names = (
        "timestamp",
        "model_name",
        "model_version",
        "duration_ms",
        "was_successful",
        "error",
        "metadata",
        "request_id",
    )
    return "".join("\t".join(_copy_value(row.get(name)) for name in names) + "\n" for row in rows)


def _copy_value(value: Any) -> str:
    if value is None:
        return "\\N"
    if isinstance(value, dict):
        value = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return str(value).replace("\\", "\\\\")


def _copier(dsn: str) -> Callable[[str], None]:
    """COPY, a batch a transaction."""
    connection = psycopg2.connect(dsn)
    connection.autocommit = True
    return lambda rows: connection.cursor().copy_expert(COPY, io.StringIO(rows))


def _poster(port: int, encoding: str = "identity") -> Callable[[bytes], None]:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    headers = {"Content-Type": "application/json", "Content-Encoding": encoding}

    def post(body: bytes) -> None:
        connection.request("POST", "/api/v1/predict-logs", body, headers)
        response = connection.getresponse()
        answer = response.read()
        if response.status != 200 or json.loads(answer)["stored"] != BATCH:
            raise SystemExit(f"{response.status}: {answer[:500]!r}")

    return post


def _report_batches(figures: Figures) -> None:
    print(f"### Batches of {BATCH:,} records, rows a second\n")
    print("| | 1 connection | of COPY | 2 connections | of COPY |")
    print("|---|---:|---:|---:|---:|")
    for way in dict.fromkeys(key.partition("/")[0] for key in figures):
        cells = []
        for connections in (1, 2):
            rate = statistics.median(figures[f"{way}/{connections}"])
            share = rate / statistics.median(figures[f"COPY/{connections}"])
            cells += [f"{rate:,.0f}", f"{share:.0%}"]
        print(f"| {way} | {' | '.join(cells)} |")
    print(flush=True)


def _single(admin: URL, port: int, arguments: argparse.Namespace) -> dict[str, list[dict[str, float]]]:
    """Rate and latency of the service and of its peer, round by round."""
    figures: dict[str, list[dict[str, float]]] = defaultdict(list)
    with ExitStack() as stack:
        seed_dsn = stack.enter_context(database(admin, "predlog_ingest_seed"))
        with connect(seed_dsn) as connection:
            connection.cursor().execute(SEED_TABLE)
        ports = {"seed": _seed(stack, seed_dsn, arguments.workers), "Predlog": port}
        for round in range(arguments.rounds + 1):
            for name, at in ports.items():
                figure = _load(at, arguments)
                if round:  # the first one warms up
                    figures[name].append(figure)
            print(f"\rsingle predictions: round {round} of {arguments.rounds}", end="", file=sys.stderr)
        print(file=sys.stderr)
    return figures


def _load(port: int, arguments: argparse.Namespace) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.load", str(port), "/api/v1/predict-log"]
    command += [str(arguments.seconds), str(arguments.connections)]
    done = subprocess.run(command, input=json.dumps(SINGLE), capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return dict(json.loads(done.stdout))


def _seed(stack: ExitStack, dsn: str, workers: int) -> int:
    """Start the seed's design; returns its port."""
    port, url = free_port(), make_url(dsn).set(drivername="postgresql+asyncpg").render_as_string(False)
    command = [str(_python_of_peers()), "-m", "uvicorn", "seed.main:app", "--app-dir", str(PEERS)]
    command += ["--port", str(port), "--workers", str(workers)]
    stack.enter_context(running(command, {**os.environ, "DATABASE_URL": url}, port, "/health"))
    return port


def _python_of_peers() -> Path:
    python = PEERS / ".venv" / "bin" / "python"
    if not python.exists():
        print(f"installing {PEERS.name}/requirements.txt", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", PEERS / ".venv"], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "-r", PEERS / "requirements.txt"], check=True)
    return python


def _report_single(figures: dict[str, list[dict[str, float]]], arguments: argparse.Namespace) -> None:
    print(f"### Single predictions over {arguments.connections} connections\n")
    print("| | requests a second | p50 ms | p99 ms |")
    print("|---|---:|---:|---:|")
    medians = {
        name: {key: statistics.median(figure[key] for figure in rounds) for key in ("rate", "p50", "p99")}
        for name, rounds in figures.items()
    }
    for name, figure in medians.items():
        print(f"| {name} | {figure['rate']:,.0f} | {figure['p50']:.1f} | {figure['p99']:.1f} |")
    seed, ours = medians["seed"], medians["Predlog"]
    print(f"\n{ours['rate'] / seed['rate']:.2f} × the seed's rate at {ours['p99'] / seed['p99']:.2f} × its p99\n")


if __name__ == "__main__":
    main()
