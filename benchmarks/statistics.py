"""How fast statistics are, against the floor (GET /ready) and against a scan of the raw rows, in one run.

    DATABASE_URL=postgresql://… python -m benchmarks.statistics [--rows 1 10 100] [--keep]

DATABASE_URL names a TimescaleDB server on this machine whose role may create databases. For each size (millions of
rows) a database of its own is made, filled over 90 days with predictions of 20 models, refreshed, moved to the
columnstore, measured and dropped. Requests are sent one after the other, the kinds in turn, so that all kinds meet
the same noise.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from urllib.parse import urlencode

import psycopg2
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor
from sqlalchemy.engine import make_url

from examples.processes import NO_DATABASE

DAYS, MODELS, PIECE = 90, 20, 1_000_000

# Log-normal durations that differ by model, one prediction in fifty fails, a new version every 30 days.
FILL = """
INSERT INTO prediction_log (timestamp, model_name, model_version, duration_ms, was_successful)
SELECT %(start)s + (g + random()) * %(step)s, 'model_' || (g %% {models}), (g * 3 / %(rows)s)::text,
       round(exp(3 + (g %% {models}) / 5.0 + 0.5 * sqrt(-2 * ln(1 - random())) * cos(2 * pi() * random()))::numeric, 3),
       random() > 0.02
FROM   generate_series(%(first)s, %(last)s) AS g
"""
SIZE = """
SELECT sum(hypertable_size(h))
FROM  (SELECT 'prediction_log'::regclass
       UNION ALL
       SELECT format('%I.%I', materialization_hypertable_schema, materialization_hypertable_name)::regclass
       FROM   timescaledb_information.continuous_aggregates) AS all_of_it (h)
"""
# The aggregates by day have few rows: those without a sketch stay out of the columnstore.
COMPRESS = """
SELECT compress_chunk(format('%I.%I', c.chunk_schema, c.chunk_name)::regclass)
FROM   timescaledb_information.chunks c
LEFT   JOIN timescaledb_information.continuous_aggregates a ON a.materialization_hypertable_name = c.hypertable_name
WHERE  NOT c.is_compressed AND a.view_name IS DISTINCT FROM 'prediction_stats_day' AND {chunks}
"""
# As the columnstore's policies do it, sooner or later.
OLD = """
c.range_end < now() - CASE WHEN a.view_name ~ '(hour|day)$' THEN INTERVAL '1 day' ELSE INTERVAL '7 days' END
"""
SCAN = """
SELECT count(*), count(*) FILTER (WHERE was_successful), avg(duration_ms)
FROM   prediction_log WHERE model_name = %s AND timestamp >= %s AND timestamp < %s
"""
SCAN_PERCENTILES = """
SELECT percentile_cont(ARRAY[0.5, 0.9, 0.95, 0.99]) WITHIN GROUP (ORDER BY duration_ms)
FROM   prediction_log WHERE model_name = %s AND timestamp >= %s AND timestamp < %s
"""


def main() -> None:
    """Fill, measure, print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=float, nargs="+", default=[1, 10], metavar="MILLIONS", help="sizes to measure")
    parser.add_argument("--requests", type=int, default=400, help="requests of each kind")
    parser.add_argument("--keep", action="store_true", help="keep the databases, and use those kept before")
    arguments = parser.parse_args()
    admin = make_url(os.environ["DATABASE_URL"]).set(drivername="postgresql")
    print(f"{os.cpu_count()} cores, Python {sys.version.split()[0]}, {DAYS} days, {MODELS} models\n", flush=True)
    for millions in arguments.rows:
        rows = int(millions * 1e6)
        name = f"predlog_benchmark_{rows}"
        url = admin.set(database=name)
        _make(admin.render_as_string(False), name, keep=arguments.keep)
        try:
            dsn = url.render_as_string(False)
            fresh = _fill(dsn, rows)
            with _connect(dsn) as connection, _service(dsn) as port:
                _report(connection, port, rows, arguments.requests, fresh)
        finally:
            if not arguments.keep:
                _drop(admin.render_as_string(False), name)


def _report(connection: Connection, port: int, rows: int, requests: int, end: datetime) -> None:
    start = end - timedelta(days=DAYS)
    kinds = _kinds(start, end)
    times: dict[str, list[float]] = {kind: [] for kind in kinds}
    client = http.client.HTTPConnection("127.0.0.1", port)
    for i in range(requests + 20):
        for kind, path in kinds.items():
            took = _timed(lambda path=path: _get(client, path()))
            if i >= 20:
                times[kind].append(took)
    floor = _quantiles(times["GET /ready (the floor)"])
    cursor = connection.cursor()
    scan = statistics.median(_timed(lambda: cursor.execute(SCAN, ("model_7", start, end))) for _ in range(5))
    sort = statistics.median(
        _timed(lambda: cursor.execute(SCAN_PERCENTILES, ("model_7", start, end))) for _ in range(3)
    )
    print(f"### {rows / 1e6:g} million rows\n")
    print("| | p50 ms | p95 ms | p50 ÷ floor | p95 ÷ floor | raw scan ÷ p50 |")
    print("|---|---:|---:|---:|---:|---:|")
    for kind, taken in times.items():
        p50, p95 = _quantiles(taken)
        against = sort if "percentiles" in kind else scan
        ratio = "" if "floor" in kind else f"{against / p50:,.0f}"
        print(f"| {kind} | {p50 * 1e3:.2f} | {p95 * 1e3:.2f} | {p50 / floor[0]:.1f} | {p95 / floor[1]:.1f} | {ratio} |")
    print(f"\nRaw scan of one model: {scan * 1e3:,.0f} ms; its percentiles: {sort * 1e3:,.0f} ms.")
    week_in_rows = _size(cursor)
    cursor.execute(COMPRESS.format(chunks="true"))
    print(
        f"Bytes a row, with all aggregates: {_size(cursor) / rows:.1f} at rest (all in the columnstore), "
        f"{week_in_rows / rows:.1f} with the last week in rows.\n",
        flush=True,
    )


def _size(cursor: Cursor) -> int:
    cursor.execute(SIZE)
    return int(cursor.fetchone()[0])


def _kinds(start: datetime, end: datetime) -> dict[str, Callable[[], str]]:
    """Return the kinds of requests: each function returns the path of another request of its kind."""

    def stats(path: str, since: datetime, until: datetime, **more: str) -> str:
        query = {"model_name": f"model_{random.randrange(MODELS)}", "from": since.isoformat(), "to": until.isoformat()}
        return f"/api/v1/{path}?{urlencode(query | more)}"

    def cut() -> tuple[datetime, datetime]:
        span = int((end - start).total_seconds())
        since = start + timedelta(seconds=random.randrange(span // 3))
        return since, end - timedelta(seconds=random.randrange(span // 3))

    def panel() -> tuple[datetime, datetime]:
        until = end - timedelta(hours=5) + timedelta(seconds=next(seconds))
        return until - timedelta(days=7), until

    seconds = itertools.count()
    none = {"percentiles": ""}
    return {
        "GET /ready (the floor)": lambda: "/ready",
        "whole range": lambda: stats("stats", start, end, **none),
        "cut to the second": lambda: stats("stats", *cut(), **none),
        "whole range, percentiles": lambda: stats("stats", start, end),
        "cut to the second, percentiles": lambda: stats("stats", *cut()),
        "a panel that moves on, percentiles": lambda: stats("stats", *panel()),
        "60 points": lambda: stats("stats/timeseries", end - timedelta(days=60), end, bucket="1d", **none),
        "60 points, percentiles": lambda: stats("stats/timeseries", end - timedelta(days=60), end, bucket="1d"),
    }


def _fill(dsn: str, rows: int) -> datetime:
    """Fill and refresh the database unless it was kept; return the end of the 90 days, a full day."""
    end = datetime.now(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)
    environment = {**os.environ, **NO_DATABASE, "DATABASE_URL": dsn}
    _flask(environment, "db", "upgrade")
    with _connect(dsn) as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT timestamp FROM prediction_log ORDER BY timestamp DESC LIMIT 1")
        kept = cursor.fetchone()
        if kept:
            return kept[0].astimezone(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(
                days=1
            )
        start = end - timedelta(days=DAYS)
        for first in range(0, rows, PIECE):
            values = {"start": start, "step": (end - start) / rows, "rows": rows, "first": first}
            cursor.execute(FILL.format(models=MODELS), values | {"last": min(first + PIECE, rows) - 1})
            print(f"\r{rows / 1e6:g} million rows: {(first + PIECE) / rows:4.0%} filled", end="", file=sys.stderr)
    print(file=sys.stderr)
    _flask(environment, "stats", "refresh")
    with _connect(dsn) as connection:
        cursor = connection.cursor()
        cursor.execute(
            "SELECT alter_job(job_id, scheduled => false) FROM timescaledb_information.jobs WHERE job_id > 999"
        )
        cursor.execute(COMPRESS.format(chunks=OLD))
        cursor.execute("VACUUM ANALYZE")
    return end


def _flask(environment: dict[str, str], *command: str) -> None:
    subprocess.run([sys.executable, "-m", "flask", "--app", "wsgi", *command], env=environment, check=True)


@contextmanager
def _service(dsn: str) -> Iterator[int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, **NO_DATABASE, "DATABASE_URL": dsn, "PORT": str(port), "WORKERS": "1"}
    service = subprocess.Popen(
        [sys.executable, "-m", "app", "--no-migrate"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait(port)
        yield port
    finally:
        service.send_signal(signal.SIGINT)
        service.wait(timeout=60)


def _wait(port: int) -> None:
    for _ in range(200):
        try:
            return _get(http.client.HTTPConnection("127.0.0.1", port), "/ready")
        except (OSError, AssertionError):
            time.sleep(0.1)
    raise SystemExit("the service did not become ready")


def _get(client: http.client.HTTPConnection, path: str) -> None:
    client.request("GET", path)
    response = client.getresponse()
    body = response.read()
    assert response.status == 200, body


def _timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _quantiles(times: list[float]) -> tuple[float, float]:
    return statistics.median(times), statistics.quantiles(times, n=20)[18]


@contextmanager
def _connect(dsn: str) -> Iterator[Connection]:
    connection = psycopg2.connect(dsn)
    connection.autocommit = True
    try:
        yield connection
    finally:
        connection.close()


def _make(dsn: str, name: str, *, keep: bool) -> None:
    with _connect(dsn) as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,))
        if cursor.fetchone() and not keep:
            cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")
            cursor.execute(f"CREATE DATABASE {name}")
        elif not cursor.rowcount:
            cursor.execute(f"CREATE DATABASE {name}")


def _drop(dsn: str, name: str) -> None:
    with _connect(dsn) as connection:
        connection.cursor().execute(f"DROP DATABASE {name} WITH (FORCE)")


if __name__ == "__main__":
    main()
