"""The cost of reports of dropped predictions for statistics, in one run: no reports, then many of another model.

    [DATABASE_URL=postgresql://…] python -m benchmarks.dropped [--reports 143000] [--requests 200]

With DATABASE_URL, a TimescaleDB server on this machine, a database of its own is made there; without it an embedded
PostgreSQL is started. Each question is asked of the service before and after the reports are stored, beside
GET /ready (HTTP and one trivial query) as the floor, so that a busy machine shows in the floor as well.
"""

from __future__ import annotations

import argparse
import http.client
import os
import statistics
import subprocess
import sys
import time

from benchmarks.common import connect, database, migrate, server, service
from examples.processes import NO_DATABASE

PREDICTIONS = """
INSERT INTO prediction_log (timestamp, model_name, duration_ms, was_successful)
SELECT now() - g * INTERVAL '1 minute', 'model_' || g %% 20, 10, true FROM generate_series(1, %s) AS g
"""
# One a minute, so that they are as many rows by minute as single reports: the worst case.
REPORTS = """
INSERT INTO prediction_dropped (id, timestamp, model_name, reason, count)
SELECT gen_random_uuid(), date_trunc('minute', now()) - g * INTERVAL '1 minute', %s, 'queue_full', 1 + g %% 7
FROM   generate_series(1, %s) AS g
"""
REFRESH = [sys.executable, "-m", "flask", "--app", "wsgi", "stats", "refresh"]
QUESTIONS = {
    "GET /ready (the floor)": "/ready",
    "one model, all time": "/api/v1/stats?model_name=model_7&percentiles=",
    "one model, cut to the second": "/api/v1/stats?model_name=model_7&percentiles=&from=2026-01-01T01:02:03Z",
    "all models, all time": "/api/v1/stats?percentiles=",
    "all models, by model": "/api/v1/stats?percentiles=&group_by=model_name",
    "the model that has the reports": "/api/v1/stats?model_name=dropping&percentiles=",
}


def main() -> None:
    """Fill, measure, print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reports", type=int, default=143_000, help="how many reports of another model")
    parser.add_argument("--requests", type=int, default=200, help="requests of each kind")
    arguments = parser.parse_args()
    engine = "timescale" if os.environ.get("DATABASE_URL") else "plain"
    with server(engine) as admin, database(admin, "predlog_benchmark_dropped") as dsn:
        migrate(dsn)
        with connect(dsn) as connection:
            connection.cursor().execute(PREDICTIONS, [50_000])
            subprocess.run(
                REFRESH, env={**os.environ, **NO_DATABASE, "DATABASE_URL": dsn}, check=True, stdout=subprocess.DEVNULL
            )
            connection.cursor().execute("ANALYZE")
            with service(dsn, 1) as port:
                before = _measure(port, arguments.requests)
                began = time.perf_counter()
                connection.cursor().execute(REPORTS, ["dropping", arguments.reports])
                took = time.perf_counter() - began
                connection.cursor().execute("ANALYZE")
                after = _measure(port, arguments.requests)
    floors = before["GET /ready (the floor)"], after["GET /ready (the floor)"]
    print(f"{engine}, {arguments.reports:,} reports of another model, stored in {took:.1f} s; p50\n")
    print("| | before, ms | ÷ floor | after, ms | ÷ floor | after ÷ before, by the floor |")
    print("|---|---:|---:|---:|---:|---:|")
    for question in QUESTIONS:
        ratios = before[question] / floors[0], after[question] / floors[1]
        print(
            f"| {question} | {before[question] * 1e3:.2f} | {ratios[0]:.1f} | {after[question] * 1e3:.2f} "
            f"| {ratios[1]:.1f} | {ratios[1] / ratios[0]:.2f} |"
        )


def _measure(port: int, requests: int) -> dict[str, float]:
    """The median seconds of each question, asked in turn."""
    client = http.client.HTTPConnection("127.0.0.1", port)
    times: dict[str, list[float]] = {question: [] for question in QUESTIONS}
    for i in range(requests + 20):
        for question, path in QUESTIONS.items():
            began = time.perf_counter()
            client.request("GET", path)
            answer = client.getresponse()
            answer.read()
            assert answer.status == 200, (path, answer.status)
            if i >= 20:
                times[question].append(time.perf_counter() - began)
    return {question: statistics.median(taken) for question, taken in times.items()}


if __name__ == "__main__":
    main()
