"""Predictions of one engine, exported and imported into the other: is each row the same, and what is said of them?

    DATABASE_URL=postgresql://… python -m benchmarks.round_trip [--rows 1000000] [--format ndjson|csv|parquet]

DATABASE_URL names a TimescaleDB server on this machine whose role may create databases; the plain engine is an embedded
PostgreSQL. Both ways are gone, with `predlog export` and `predlog import`. The exit code is 1 if a row or a figure
differs.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import zip_longest
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import psycopg2

from benchmarks import common
from benchmarks.export import FILL
from examples.processes import NO_DATABASE

NAME = "predlog_benchmark_round_trip"
CLIENT = Path(__file__).parents[1] / "client" / "src"
MODELS = 20  # of FILL
# The id is the target's own. Types that two programs may write differently are compared as Python's values.
ROWS = """
SELECT request_id, timestamp, model_name, model_version, duration_ms, was_successful, error, metadata
FROM   prediction_log ORDER BY request_id
"""
# A sum of floats depends on their order: it, and what is computed of it, may differ in its last digits.
IN_ORDER = ("average_duration_ms",)


def main() -> None:
    """Go both ways, print what was the same, and exit with 1 if anything was not."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--format", choices=("ndjson", "csv", "parquet"), default="ndjson")
    options = parser.parse_args()
    is_same = True
    with ExitStack() as stack:
        servers = {engine: stack.enter_context(common.server(engine)) for engine in ("plain", "timescale")}
        for here, there in (("plain", "timescale"), ("timescale", "plain")):
            with (
                common.database(servers[here], f"{NAME}_from") as source,
                common.database(servers[there], f"{NAME}_to") as target,
                tempfile.TemporaryDirectory() as folder,
            ):
                common.migrate(source)
                common.migrate(target)
                fill(source, options.rows)
                is_same &= compared(source, target, Path(folder, f"predictions.{options.format}"), f"{here} → {there}")
    sys.exit(not is_same)


def fill(dsn: str, rows: int) -> None:
    """Insert predictions, and bring the aggregates up to date."""
    with common.connect(dsn) as connection:
        for first in range(1, rows + 1, 100_000):
            connection.cursor().execute(FILL.format(first=first, last=min(first + 99_999, rows)))
    refresh(dsn)


def refresh(dsn: str) -> None:
    """Bring the aggregates up to date."""
    command = [sys.executable, "-m", "flask", "--app", "wsgi", "stats", "refresh"]
    subprocess.run(command, env={**os.environ, **NO_DATABASE, "DATABASE_URL": dsn}, check=True, capture_output=True)


def compared(source: str, target: str, file: Path, way: str) -> bool:
    """Take all predictions from one database to the other; print and return whether all is the same there."""
    with common.service(source, 1) as here, common.service(target, 1) as there:
        exported_s = timed("export", file, here)
        size = file.stat().st_size / 2**20
        imported_s = timed("import", file, there)
        number, different = rows_that_differ(source, target)
        print(f"{way}: {number:,} rows, {different:,} different; {file.suffix[1:]} of {size:,.0f} MB")
        print(f"    exported in {exported_s:.0f} s, imported in {imported_s:.0f} s")
        said = {"at once": figures(there)}
        refresh(target)
        said["refreshed"] = figures(there)
        expected = figures(here)
    for when, given in said.items():
        keys = expected.keys() | given.keys()
        wrong = [key for key in keys if expected.get(key) != given.get(key) and not key.endswith(IN_ORDER)]
        averages = [(value, given[key]) for key, value in expected.items() if key.endswith(IN_ORDER)]
        off = max(abs(one - other) / one for one, other in averages)
        equal = sum(one == other for one, other in averages)
        print(f"    {when}: {len(keys) - len(averages):,} figures, {len(wrong):,} different", *wrong[:5])
        print(f"    {len(averages):,} averages, {equal:,} equal to the bit, the others within {off:.0e}", flush=True)
        different += len(wrong)
    return different == 0


def timed(command: str, file: Path, port: int) -> float:
    """Run a command of the client; returns its seconds."""
    environment = {**os.environ, "PYTHONPATH": str(CLIENT), "PREDLOG_URL": f"http://127.0.0.1:{port}"}
    began = time.monotonic()
    subprocess.run([sys.executable, "-m", "predlog", command, file], env=environment, check=True, capture_output=True)
    return time.monotonic() - began


def rows_that_differ(source: str, target: str) -> tuple[int, int]:
    """Return how many rows the source has, and how many differ or are missing on either side."""
    number = different = 0
    for one, other in pairs(source, target):
        number += one is not None
        different += one != other
    return number, different


def pairs(source: str, target: str) -> Iterator[tuple[Any, Any]]:
    """Yield the rows of both side by side."""
    with psycopg2.connect(source) as one, psycopg2.connect(target) as other:
        cursors = [connection.cursor("rows") for connection in (one, other)]
        for cursor in cursors:
            cursor.itersize = 10_000
            cursor.execute(ROWS)
        yield from zip_longest(*cursors)


def figures(port: int) -> dict[str, Any]:
    """Return every figure of many answers, under its path."""
    spans = ({"from": "2026-01-01", "to": "2026-03-01"}, {"from": "2026-01-01T00:00:07Z", "to": "2026-01-02T12:34:56Z"})
    found: dict[str, Any] = {}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    for span in spans:
        for model in (None, *range(MODELS)):
            query = span | ({} if model is None else {"model_name": f"model-{model}"})
            for path, more in (
                ("stats", {"percentiles": "1,50,95,99,99.9", "group_by": "model_version"}),
                ("stats/timeseries", {"bucket": "1h", "percentiles": "50,95,99"}),
                ("stats/histogram", {}),
            ):
                asked = f"/api/v1/{path}?{urlencode(query | more)}"
                connection.request("GET", asked)
                response = connection.getresponse()
                body = response.read()
                assert response.status == 200, (asked, body)
                found.update(leaves(json.loads(body), asked))
    return found


def leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield each value of a JSON document with its path, but for null and for what says how the answer was made."""
    if isinstance(value, dict | list):
        for key, each in value.items() if isinstance(value, dict) else enumerate(value):
            if key != "freshness":
                yield from leaves(each, f"{path} {key}")
    elif value is not None:
        yield path, value


if __name__ == "__main__":
    main()
