"""How much of a question is planning: the statements of /stats, explained and run, planning and execution apart.

    DATABASE_URL=postgresql://… python -m benchmarks.planning [--rows 1] [--requests 50]

DATABASE_URL names a TimescaleDB server on this machine whose role may create databases. The database is made and filled
as for benchmarks.statistics. Each request asks about another model and another range, and its statement runs a second
time under EXPLAIN ANALYZE, which tells both times; execution is without the clock of each row.
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import sys
from collections import defaultdict
from datetime import timedelta
from typing import Any

import structlog
from flask.testing import FlaskClient
from psycopg2.extensions import cursor as Cursor
from sqlalchemy import Engine, event, make_url

from benchmarks.statistics import DAYS, MODELS, _connect, _drop, _fill, _kinds, _make
from examples.processes import NO_DATABASE

EXPLAIN = "EXPLAIN (ANALYZE, TIMING OFF, SUMMARY, FORMAT JSON) "
QUESTIONS = ("whole range", "whole range, percentiles", "cut to the second", "cut to the second, percentiles")
ANSWER = "AS parts"


def main() -> None:
    """Fill, explain, print a table in Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=float, nargs="+", default=[1], metavar="MILLIONS", help="sizes to measure")
    parser.add_argument("--requests", type=int, default=50, help="requests of each kind")
    arguments = parser.parse_args()
    admin = make_url(os.environ["DATABASE_URL"]).set(drivername="postgresql")
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.0f}, Python {sys.version.split()[0]}, {DAYS} days, "
          f"{MODELS} models\n", flush=True)  # fmt: skip
    for millions in arguments.rows:
        name = f"predlog_planning_{int(millions * 1e6)}"
        _make(admin.render_as_string(False), name, keep=False)
        try:
            dsn = admin.set(database=name).render_as_string(False)
            end = _fill(dsn, int(millions * 1e6))
            print(f"### {millions:g} million rows\n")
            _report(dsn, _kinds(end - timedelta(days=DAYS), end), arguments.requests)
        finally:
            _drop(admin.render_as_string(False), name)


def _report(dsn: str, kinds: dict[str, Any], requests: int) -> None:
    plans: dict[str, list[tuple[int, float, float]]] = defaultdict(list)
    with _connect(dsn) as connection:
        client, asked = _service(dsn)
        cursor = connection.cursor()
        cursor.execute("SET jit = off")
        for _ in range(requests):
            for kind in QUESTIONS:
                asked.clear()
                assert client.get(kinds[kind]()).status_code == 200
                plans[kind].append(_explain(cursor, *asked[-1]))
    print("| | branches | planning ms | execution ms | planning ÷ both |\n|---|---:|---:|---:|---:|")
    for kind, found in plans.items():
        branches, planning, execution = (statistics.median(column) for column in zip(*found))
        share = planning / (planning + execution)
        print(f"| {kind} | {branches:.0f} | {planning:.2f} | {execution:.2f} | {share:.0%} |", flush=True)


def _service(dsn: str) -> tuple[FlaskClient, list[tuple[str, Any]]]:
    """Return a client of the service, and the list to which each of its statements is added with its values."""
    os.environ |= {**NO_DATABASE, "DATABASE_URL": dsn, "AUTH": "none"}
    from app.factory import create_app  # reads the environment

    asked: list[tuple[str, Any]] = []

    @event.listens_for(Engine, "before_cursor_execute")
    def keep(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        if ANSWER in statement:
            asked.append((statement, parameters))

    app = create_app()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    return app.test_client(), asked


def _explain(cursor: Cursor, statement: str, parameters: Any) -> tuple[int, float, float]:
    """Run the statement. Return its number of branches, and milliseconds of planning and of execution."""
    cursor.execute(EXPLAIN + statement, parameters)
    (((found,),),) = cursor.fetchall()
    return 1 + statement.count("UNION ALL"), found["Planning Time"], found["Execution Time"]


if __name__ == "__main__":
    main()
