"""The cost of many names of models: a page of the models, an answer by group, a batch.

    [DATABASE_URL=postgresql://…] python -m benchmarks.cardinality [--engine plain] [--names 50000] [--rounds 7]

DATABASE_URL names a TimescaleDB server on this machine whose role may create databases; without it, or with `--engine
plain`, an embedded PostgreSQL is started. The application is called in this process, without HTTP. `before` is the cost
of the same question before there was a table of names and a limit of groups: it counted all models and cut out a page,
and answered with all groups. Batches are stored with and without the trigger that keeps the names, in turn.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone

from flask import Flask

from app.application.predictions import Batch, PredictionColumns
from app.application.statistics import Question
from app.domain.instants import TimeRange
from app.domain.predictions import EARLIEST
from app.domain.statistics import GROUP_KEYS, Selection
from app.factory import create_app
from app.presentation.services import EXTENSION
from benchmarks.common import connect, database, migrate, server
from config import load
from examples.processes import NO_DATABASE

FILL = """
INSERT INTO prediction_log (timestamp, model_name, model_version, duration_ms, was_successful)
SELECT now() - random() * INTERVAL '3 days', 'model-' || n, '1', 100 * random(), true FROM generate_series(1, %s) AS n
"""
DROP = "DROP TRIGGER prediction_log_named ON prediction_log"
CREATE = """
CREATE TRIGGER prediction_log_named AFTER INSERT ON prediction_log
REFERENCING NEW TABLE AS touched FOR EACH STATEMENT EXECUTE FUNCTION prediction_log_named()
"""
BATCH = 10_000


def main() -> None:
    """Print a table of medians, in milliseconds and as multiples of the first line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = "timescale" if "DATABASE_URL" in os.environ else "plain"
    parser.add_argument("--engine", choices=["plain", "timescale"], default=default)
    parser.add_argument("--names", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    with server(options.engine) as admin, database(admin, "predlog_benchmark_cardinality") as dsn:
        migrate(dsn)
        os.environ.update(NO_DATABASE, DATABASE_URL=dsn, AUTH="none", MAX_NEW_MODELS_PER_DAY="0")
        app = create_app(load(env_file=None))
        _fill(dsn, 10)
        few = _questions(app, options.rounds)
        _fill(dsn, options.names)
        many = _questions(app, options.rounds)
        batches = _batches(app, dsn, options.rounds)
    print(f"| {options.engine} | 10 names, ms | {options.names:,} names, ms | ratio |\n|---|---:|---:|---:|")
    for name, small in few.items():
        print(f"| {name} | {small:.1f} | {many[name]:.1f} | {many[name] / small:.1f} |")
    alone, named = batches
    print(f"\nA batch of {BATCH:,}: {alone:.0f} ms without the trigger, {named:.0f} ms with it ({named / alone:.2f})")


def _fill(dsn: str, names: int) -> None:
    with connect(dsn) as connection, connection.cursor() as cursor:
        cursor.execute(FILL, [names])
        cursor.execute("SELECT engine FROM prediction_stats_state")
        if cursor.fetchone() == ("timescale",):
            cursor.execute("CALL prediction_stats_job(0, '{}')")
        cursor.execute("ANALYZE")


def _questions(app: Flask, rounds: int) -> dict[str, float]:
    client = app.test_client()
    statistics_of = app.extensions[EXTENSION].readers._primary.statistics

    def before(*group_by: str, latency: bool) -> None:
        ever = TimeRange(EARLIEST, datetime.now(timezone.utc) + timedelta(minutes=10))
        statistics_of.ask(Question(Selection(), ever, group_by, latency=latency))

    questions: dict[str, Callable[[], object]] = {
        "`GET /ready` (the floor)": lambda: client.get("/ready"),
        "`/models?limit=1`": lambda: client.get("/api/v1/models?limit=1"),
        "`/models?limit=1`, before: its first step": lambda: before(*GROUP_KEYS, latency=False),
        "`/models?limit=100`": lambda: client.get("/api/v1/models?limit=100"),
        "`/models?limit=1&search=9`": lambda: client.get("/api/v1/models?limit=1&search=9"),
        "`/stats?group_by=model_name`": lambda: client.get("/api/v1/stats?group_by=model_name"),
        "`/stats?group_by=model_name`, before: without JSON": lambda: before("model_name", latency=True),
    }
    measured: dict[str, list[float]] = {name: [] for name in questions}
    for _ in range(rounds):
        for name, question in questions.items():
            measured[name].append(_milliseconds(question))
    return {name: statistics.median(times) for name, times in measured.items()}


def _batches(app: Flask, dsn: str, rounds: int) -> tuple[float, float]:
    """Return the time of a batch without the trigger, and with it."""
    log = app.extensions[EXTENSION].predictions.log_batch
    times: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(rounds):
        for is_named, statement in ((False, DROP), (True, CREATE)):
            with connect(dsn) as connection:
                connection.cursor().execute(statement)
            times[is_named].append(_milliseconds(lambda: log(_batch())))
    return statistics.median(times[False]), statistics.median(times[True])


def _batch() -> Batch:
    now = datetime.now(timezone.utc)
    number = range(BATCH)
    return Batch(
        PredictionColumns(
            timestamp=[now - timedelta(milliseconds=n) for n in number],
            model_name=[f"model-{n % 20}" for n in number],
            model_version=["1"] * BATCH,
            duration_ms=[float(n % 97) for n in number],
            was_successful=[True] * BATCH,
            error=[None] * BATCH,
            metadata=[None] * BATCH,
            request_id=[None] * BATCH,
        )
    )


def _milliseconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000


if __name__ == "__main__":
    main()
