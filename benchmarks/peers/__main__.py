"""Predlog, MLflow and Arize Phoenix on the same PostgreSQL, and chdb (ClickHouse in process), each in turn.

    [DATABASE_URL=postgresql://…] python -m benchmarks.peers [--rows 200000 2000000] [--seconds 10] [--only NAME …]

DATABASE_URL names a TimescaleDB server on this machine whose role may create databases; without it an embedded
PostgreSQL is started. The peers' packages are pinned in `benchmarks/peers/*.txt`, and are installed the first time.
It prints one table in Markdown. CPU is that of the system and of its PostgreSQL; percentiles are compared with those of
the same predictions, sorted.
"""

from __future__ import annotations

import argparse
import http.client
import os
import signal
import statistics
import sys
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from sqlalchemy.engine import URL

from benchmarks import common
from benchmarks.peers import predictions
from benchmarks.peers.processes import cpu_s, memory_mb
from benchmarks.peers.systems import SYSTEMS, System
from benchmarks.peers.systems.base import made, wait_for, wait_until_still

# Of each kind at most so many are sent, because bodies are made beforehand.
RECORDS, SINGLES = 60_000, 5_000
ROUNDS = 15
Column = dict[str, str]


def main() -> None:
    """Measure each system, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--rows", type=int, nargs="+", default=[200_000, 2_000_000], help="predictions in the log when asked"
    )
    parser.add_argument(
        "--seconds", type=float, default=10, help="how long predictions are sent, singly and in batches"
    )
    parser.add_argument("--only", nargs="+", choices=[kind.name for kind in SYSTEMS], help="some of them")
    options = parser.parse_args()
    engine = "timescale" if os.environ.get("DATABASE_URL") else "plain"
    columns: dict[str, Column] = {}
    with common.server(engine) as admin:
        postmaster = postmaster_of(admin)
        try:
            for kind in SYSTEMS:
                if not options.only or kind.name in options.only:
                    print(f"{kind.name} …", file=sys.stderr, flush=True)
                    columns[kind.name] = measured(kind, admin, postmaster, options.rows, options.seconds)
        finally:  # what was measured is shown, even if the next system fails
            print(f"{os.cpu_count()} cores, Python {sys.version.split()[0]}, engine {engine}\n")
            show(columns)


def show(columns: dict[str, Column]) -> None:
    """Print a table in Markdown."""
    print(f"| | {' | '.join(columns)} |")
    print(f"|---|{'---:|' * len(columns)}")
    for row in dict.fromkeys(row for column in columns.values() for row in column):
        print(f"| {row} | {' | '.join(column.get(row, '') for column in columns.values())} |")


def measured(kind: type[System], admin: URL, postmaster: int, rows: list[int], seconds: float) -> Column:
    """Return the figures of one system, by what they say."""
    column: Column = {}
    with made(kind, admin) as system, system.running() as pid:

        def cpu() -> float:
            return cpu_s(pid) + cpu_s(postmaster)

        for name, size in (("batches", kind.batch), ("single predictions", 1)):
            rate, cost = sent(system, size, seconds, cpu)
            column[f"{name}: records a second"] = f"{rate:,.0f}"
            column[f"{name}: CPU µs a record"] = f"{cost * 1e6:,.0f}"
        caller = system.caller_us()
        column["caller's cost, µs (p50)"] = f"{caller:,.1f}" if caller is not None else ""
        column["memory, MB"] = f"{memory_mb(pid):,.0f}"
        column["bytes a record"] = f"{system.bytes_a_record():,.0f}"
    for number in rows:
        with made(kind, admin) as system, system.running():
            system.fill(number)
            milliseconds, errors = asked(system, number)
            column[f"a question, {number:,} predictions, ms (p50)"] = f"{milliseconds:,.1f}"
            column[f"its worst error, {number:,} predictions"] = errors
    with made(kind, admin) as system:
        acknowledged, lost = killed(system, min(seconds, 5))
        column["lost at kill -9, of acknowledged"] = f"{lost:,} of {acknowledged:,}"
    return column


def sent(system: System, size: int, seconds: float, cpu: Callable[[], float]) -> tuple[float, float]:
    """Send predictions, and wait until they are stored; returns records a second, and seconds of CPU for each one."""
    bodies = encoded(system, size, SINGLES if size == 1 else RECORDS)
    wait_until_still(system)
    before, cpu_before, began = system.stored(), cpu(), time.monotonic()
    done = send_for(system, bodies, seconds)
    ended = wait_for(system, before + done, 120)
    stored = system.stored() - before
    if not stored:
        raise SystemExit(f"{system.name} has stored nothing of {len(bodies):,} requests")
    return stored / (ended - began), (cpu() - cpu_before) / stored


def encoded(system: System, size: int, records: int) -> list[tuple[int, bytes]]:
    """Return bodies of requests with `size` predictions each, and these sizes; made beforehand: it takes time."""
    return [(size, system.body(range(first, first + size))) for first in range(0, records, size)]


def send_for(system: System, bodies: list[tuple[int, bytes]], seconds: float) -> int:
    """Send bodies until there is none left, or the time is over; returns how many predictions were acknowledged."""
    left, done, until = iter(bodies), [0] * system.connections, time.monotonic() + seconds
    lock = threading.Lock()

    def work(place: int) -> None:
        send = system.sender()
        while time.monotonic() < until:
            with lock:
                size, body = next(left, (0, b""))
            if not size:
                return
            try:
                send(body)
            except (OSError, http.client.HTTPException) as error:
                if "answered 503" in str(error):  # it has enough to do
                    time.sleep(0.1)
                    continue
                return  # it was killed
            done[place] += size

    threads = [threading.Thread(target=work, args=(place,)) for place in range(system.connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(done)


def asked(system: System, number: int) -> tuple[float, str]:
    """Ask the same question several times; returns milliseconds (p50), and how far the worst figure is off."""
    since, until = predictions.cut(number)
    truth = predictions.truth(number)
    answer = system.ask(since, until)
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        system.ask(since, until)
        times.append(time.perf_counter() - began)
    wrong = [f"{key} {answer[key]:g} for {truth[key]:g}" for key in ("count", "errors") if answer[key] != truth[key]]
    off = max(abs(answer[f"p{each}"] / truth[f"p{each}"] - 1) for each in predictions.PERCENTILES)
    return statistics.median(times) * 1e3, "; ".join([f"{off:.2%}", *wrong])


def killed(system: System, seconds: float) -> tuple[int, int]:
    """Kill a system while it is written to; returns how many predictions it had acknowledged, and how many are lost."""
    bodies = encoded(system, 10, RECORDS)
    acknowledged: list[int] = []
    with system.running() as pid:
        sender = threading.Thread(target=lambda: acknowledged.append(send_for(system, bodies, seconds + 60)))
        sender.start()
        time.sleep(seconds)
        os.killpg(pid, signal.SIGKILL)
        sender.join()
    with system.running() if system.is_in_process else nullcontext():
        return acknowledged[0], acknowledged[0] - min(system.stored(), acknowledged[0])


def postmaster_of(admin: URL) -> int:
    """Return the process that all sessions of a PostgreSQL on this machine come from."""
    with common.connect(common.text(admin)) as connection:
        pid: Any = connection.info.backend_pid
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


if __name__ == "__main__":
    main()
