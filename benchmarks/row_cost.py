"""What a row costs: microseconds of CPU in the service and in PostgreSQL, for rows of the last seconds and of a day.

    [DATABASE_URL=postgresql://…] python -m benchmarks.row_cost [--engine plain] [--against FOLDER] [--rounds 5]

DATABASE_URL names a TimescaleDB server on this machine whose role may create databases; without it, or with `--engine
plain`, an embedded PostgreSQL is started. `--against` names another checkout, which is measured in turn with this one.
Batches of 10,000 rows go through one connection. CPU time is read from the system's clocks: that of all processes of
the service, and that of the sessions of its database. It hardly depends on what else the machine does, unlike the rate.
PostgreSQL's own processes are left out; the refresh of TimescaleDB's aggregates is a figure of its own, without its
job, for rows that are old enough to be refreshed. Each figure is the median of the rounds.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from psycopg2.extensions import connection as Connection

from benchmarks.common import connect, database, free_port, running, server
from benchmarks.ingest import BATCH, _copier, _copy_text, _json, _poster, _rows
from examples.processes import NO_DATABASE

HERE = Path(__file__).parent.parent
# How long the times of a batch last, and how much further back each round is: no round refreshes the rows of another.
SPREADS = {
    "two seconds": (timedelta(seconds=2), timedelta(minutes=5)),
    "a day": (timedelta(days=1), timedelta(days=1)),
}
NO_JOBS = "SELECT alter_job(job_id, scheduled => false) FROM timescaledb_information.jobs"
REFRESH = "CALL prediction_stats_job(0, '{}')"
SESSIONS = """
SELECT pid FROM pg_stat_activity
WHERE  datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
"""


@dataclass
class Side:
    """A checkout with a database and a service of its own."""

    name: str
    dsn: str
    port: int
    process: int
    watch: Connection
    engine: str

    def service_cpu(self) -> float:
        """The CPU seconds of all processes of the service."""
        return sum(map(_cpu, _family(self.process)))

    def database_cpu(self) -> dict[int, float]:
        """The CPU seconds of each session of the database."""
        cursor = self.watch.cursor()
        cursor.execute(SESSIONS)
        return {pid: _cpu(pid) for (pid,) in cursor.fetchall()}

    def refresh(self) -> float:
        """Refresh what was written. Return the CPU seconds that it took."""
        if self.engine == "plain":
            return 0.0
        before = _cpu(self.watch.info.backend_pid)
        self.watch.cursor().execute(REFRESH)
        return _cpu(self.watch.info.backend_pid) - before


def main() -> None:
    """Measure, print tables in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = "timescale" if os.environ.get("DATABASE_URL") else "plain"
    parser.add_argument("--engine", choices=["timescale", "plain"], default=default)
    parser.add_argument("--against", type=Path, help="another checkout to measure in turn with this one")
    parser.add_argument("--rounds", type=int, default=5, help="how often all is measured")
    parser.add_argument("--batches", type=int, default=6, help="batches of each kind and round")
    arguments = parser.parse_args()
    folders = {"this one": HERE} | ({"the other": arguments.against} if arguments.against else {})
    print(f"{os.cpu_count()} cores, Python {sys.version.split()[0]}, engine {arguments.engine}\n", flush=True)
    figures: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    with server(arguments.engine) as admin, ExitStack() as stack:
        sides = []
        for number, (name, folder) in enumerate(folders.items()):
            dsn = stack.enter_context(database(admin, f"predlog_row_cost_{number}"))
            sides.append(stack.enter_context(_side(name, folder, dsn, arguments.engine)))
        for measured in range(arguments.rounds + 1):
            for spread, (width, apart) in SPREADS.items():
                ago = timedelta(minutes=3) + measured * apart
                work = [_json(_rows(width, ago)) for _ in range(arguments.batches)]
                for side in sides:
                    for what, value in _measure(side, work).items():
                        if measured:  # the first round warms up
                            figures[side.name, spread, what].append(value)
                for what, value in _copy(sides[0], [_copy_text(_rows(width, ago)) for _ in work]).items():
                    if measured:
                        figures["COPY", spread, what].append(value)
            print(f"\rround {measured} of {arguments.rounds}", end="", file=sys.stderr)
    print(file=sys.stderr)
    _report(figures)


@contextmanager
def _side(name: str, folder: Path, dsn: str, engine: str) -> Iterator[Side]:
    environment = {**os.environ, **NO_DATABASE, "DATABASE_URL": dsn}
    command = [sys.executable, "-m", "flask", "--app", "wsgi", "db", "upgrade"]
    subprocess.run(command, cwd=folder, env=environment, check=True, stderr=subprocess.DEVNULL)
    port = free_port()
    command = [sys.executable, "-m", "app", "--no-migrate"]
    environment |= {"PORT": str(port), "WORKERS": "1"}
    with running(command, environment, port, "/ready", folder) as process, connect(dsn) as watch:
        if engine == "timescale":
            watch.cursor().execute(NO_JOBS)
        yield Side(name, dsn, port, process.pid, watch, engine)


def _measure(side: Side, work: list[bytes]) -> dict[str, float]:
    post = _poster(side.port)
    service, before, began = side.service_cpu(), side.database_cpu(), time.perf_counter()
    for body in work:
        post(body)
    took = time.perf_counter() - began
    after = side.database_cpu()
    service = side.service_cpu() - service
    rows = BATCH * len(work)
    return {
        "refresh": side.refresh() / rows * 1e6,
        "service": service / rows * 1e6,
        "database": sum(after[pid] - before.get(pid, 0.0) for pid in after) / rows * 1e6,
        "rows a second": rows / took,
    }


def _copy(side: Side, work: list[str]) -> dict[str, float]:
    copy = _copier(side.dsn)
    before, began = side.database_cpu(), time.perf_counter()
    for text in work:
        copy(text)
    took = time.perf_counter() - began
    after = side.database_cpu()
    side.refresh()
    rows = BATCH * len(work)
    return {
        "database": sum(after[pid] - before.get(pid, 0.0) for pid in after) / rows * 1e6,
        "rows a second": rows / took,
    }


def _report(figures: dict[tuple[str, str, str], list[float]]) -> None:
    print("| rows of | | service µs | database µs | both µs | refresh µs | rows a second | of COPY |")
    print("|---|---|---:|---:|---:|---:|---:|---:|")
    for name, spread in dict.fromkeys((name, spread) for name, spread, _ in figures):
        parts = {what: figures[name, spread, what] for what in ("service", "database", "refresh", "rows a second")}
        service, base, refresh, rate = (statistics.median(values) if values else 0.0 for values in parts.values())
        share = statistics.median(
            one / other for one, other in zip(parts["rows a second"], figures["COPY", spread, "rows a second"])
        )
        print(f"| {spread} | {name} | {service:.1f} | {base:.1f} | {service + base:.1f} ", end="")
        print(f"| {refresh:.1f} | {rate:,.0f} | {share:.0%} |")


def _family(pid: int) -> list[int]:
    """A process and all that descend from it."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:  # it has ended
        return []
    return [pid, *(one for child in children for one in _family(int(child)))]


def _cpu(pid: int) -> float:
    """The CPU seconds of a process and all of its threads; the clock's number is that of clock_getcpuclockid."""
    try:
        return time.clock_gettime(~pid << 3 | 2)
    except OSError:  # it has ended
        return 0.0


if __name__ == "__main__":
    main()
