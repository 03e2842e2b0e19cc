"""An export of many predictions: its speed, its memory, and its cost for concurrent writes.

    python -m benchmarks.export [--engine plain|timescale] [--rows 10000000]

One worker does both. Its memory is the peak of its resident set (VmHWM), including that of a worker just started.
Writes are single predictions on 4 connections, alone and beside an export.
"""

from __future__ import annotations

import argparse
import http.client
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import common

NAME = "predlog_benchmark_export"
SECONDS = 20
CONNECTIONS = 4
PREDICTION = {"model_name": "apartment_price", "duration_ms": 12.5, "was_successful": True}
FILL = """
INSERT INTO prediction_log
       (timestamp, model_name, model_version, duration_ms, was_successful, error, metadata, request_id)
SELECT TIMESTAMPTZ '2026-01-01 00:00Z' + n * INTERVAL '0.25 s', 'model-' || n % 20, n % 3, 1000 * random(), n % 50 <> 0,
       CASE WHEN n % 50 = 0 THEN 'ValueError: of a prediction that failed' END,
       CASE WHEN n % 4 = 0 THEN json_build_object('rooms', n % 7, 'city', 'Berlin') END, gen_random_uuid()
FROM   generate_series({first}, {last}) AS n
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", choices=("plain", "timescale"), default="plain")
    parser.add_argument("--rows", type=int, default=10_000_000)
    options = parser.parse_args()
    with common.server(options.engine) as admin, common.database(admin, NAME) as dsn:
        common.migrate(dsn)
        fill(dsn, options.engine, options.rows)
        print(f"{options.rows:,} predictions, engine {options.engine}")
        for name in ("ndjson", "csv", "parquet"):
            with common.service(dsn, 1) as port:
                before = peak_mb(port)
                alone = writes(port)
                with exporting(port, name, options.rows) as export:
                    beside = writes(port)
                print(
                    f"{name:8} {export['rows_a_second']:>9,.0f} predictions/s  {export['mb']:>7,.0f} MB sent  "
                    f"resident {before:.0f} → {peak_mb(port):.0f} MB  writes alone p50 {alone['p50']:.1f} "
                    f"p99 {alone['p99']:.1f} ms, {alone['rate']:,.0f}/s; beside it p50 {beside['p50']:.1f} "
                    f"p99 {beside['p99']:.1f} ms, {beside['rate']:,.0f}/s",
                    flush=True,
                )


def fill(dsn: str, engine: str, rows: int) -> None:
    """Insert predictions into the log, half a million in each statement."""
    with common.connect(dsn) as connection:
        if engine == "plain":  # no export reads the aggregates that these keep
            connection.cursor().execute("ALTER TABLE prediction_log DISABLE TRIGGER USER")
        for first in range(1, rows + 1, 500_000):
            connection.cursor().execute(FILL.format(first=first, last=min(first + 499_999, rows)))
        if engine == "plain":
            connection.cursor().execute("ALTER TABLE prediction_log ENABLE TRIGGER USER")
        connection.cursor().execute("VACUUM ANALYZE prediction_log")


@contextmanager
def exporting(port: int, name: str, rows: int) -> Iterator[dict[str, float]]:
    """Export all predictions during the block and to the end; the figures are complete after the block."""
    figures: dict[str, float] = {}
    thread = threading.Thread(target=export, args=(port, name, rows, figures))
    thread.start()
    yield figures
    thread.join()


def export(port: int, name: str, rows: int, figures: dict[str, float]) -> None:
    """Read an export to its end, and keep nothing of it."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    began, size, lines = time.monotonic(), 0, 0
    connection.request("GET", f"/api/v1/predictions/export?format={name}&to=2026-11-01")
    response = connection.getresponse()
    assert response.status == 200, response.read()
    while part := response.read(1024 * 1024):
        size += len(part)
        lines += part.count(b"\n")
        end = part[-4:]
    assert end == b"PAR1" or end.endswith(b"\n"), "it was cut"
    seconds = time.monotonic() - began
    assert name != "ndjson" or lines == rows, (lines, rows)
    figures.update(rows_a_second=rows / seconds, mb=size / 2**20, seconds=seconds)


def writes(port: int) -> dict[str, float]:
    """Log single predictions for some seconds, from a process of their own."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.load",
        str(port),
        "/api/v1/predict-log",
        str(SECONDS),
        str(CONNECTIONS),
    ]
    done = subprocess.run(command, input=json.dumps(PREDICTION).encode(), capture_output=True, check=True)
    return dict(json.loads(done.stdout))


def peak_mb(port: int) -> float:
    """The largest resident set so far of the processes that listen on this port, in MB."""
    return max(_status(pid, "VmHWM") for pid in _workers(port)) / 1024


def _workers(port: int) -> list[int]:
    """The processes whose supervisor was started with this port."""
    marks = {f"PORT={port}".encode()}
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                if marks & set((folder / "environ").read_bytes().split(b"\0")):
                    found.append(int(folder.name))
            except OSError:
                continue
    return found


def _status(pid: int, name: str) -> int:
    text = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith(f"{name}:"))


if __name__ == "__main__":
    main()
