"""Attacks by one caller on the others: memory under large lists, writes under slow reads, /health under connections.

    python -m benchmarks.siege [FOLDER …]

Each FOLDER is a checkout of Predlog (`.` if none is given); give older checkouts to compare with. Each checkout gets
the same attacks, on an embedded PostgreSQL and a database of its own, with its default settings. Prints Markdown.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.attacks import (
    FLOOD,
    IDLE,
    LARGE_LIST,
    READERS,
    SLOW_LIST,
    UNREAD,
    Memory,
    fill,
    flood,
    health,
    idle,
    read_all_at_once,
    trickle,
    unread,
    write,
)
from benchmarks.common import database, free_port, running, server
from examples.processes import NO_DATABASE


def main() -> None:
    """Besiege each checkout, print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="*", type=Path, default=[Path()], metavar="FOLDER")
    folders = parser.parse_args().folders
    print(f"{os.cpu_count()} cores, Python {sys.version.split()[0]}\n", flush=True)
    columns = []
    with server("plain") as admin:
        for number, folder in enumerate(folders):
            with database(admin, f"predlog_siege_{number}") as dsn:
                columns.append(_besiege(folder.resolve(), dsn))
    print(f"| | {' | '.join(map(str, folders))} |\n|---|{'---:|' * len(folders)}")
    for row in columns[0]:
        print(f"| {row} | {' | '.join(column[row] for column in columns)} |")


def _besiege(folder: Path, dsn: str) -> dict[str, str]:
    command = [sys.executable, "-m", "flask", "--app", "wsgi", "db", "upgrade"]
    subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **NO_DATABASE, "DATABASE_URL": dsn},
        check=True,
        stderr=subprocess.DEVNULL,
    )
    fill(dsn)
    figures: dict[str, str] = {}
    for attack in (_attack_memory, _attack_timeouts, _attack_writes, _attack_connections):
        print(f"{folder.name}: {attack.__name__}", file=sys.stderr)
        attack(folder, dsn, figures)
    return figures


@contextmanager
def _service(folder: Path, dsn: str, **settings: str) -> Iterator[tuple[int, int]]:
    """The port and the first process of a checkout's service."""
    port = free_port()
    environment = {**os.environ, **NO_DATABASE, "DATABASE_URL": dsn, "PORT": str(port), "AUTH": "none", **settings}
    with running([sys.executable, "-m", "app", "--no-migrate"], environment, port, "/ready", folder) as process:
        yield port, process.pid


def _attack_memory(folder: Path, dsn: str, figures: dict[str, str]) -> None:
    with _service(folder, dsn) as (port, pid):
        with Memory(pid) as memory:
            statuses = read_all_at_once(port, LARGE_LIST, READERS)
        figures[f"{READERS} readers of 1,000 records of 12 KB: memory grows by"] = _megabytes(memory)
        figures["of them answered 200"] = str(statuses[200])
    with _service(folder, dsn) as (port, pid):
        with Memory(pid) as memory, unread(port, LARGE_LIST, UNREAD):
            time.sleep(3)
        figures[f"{UNREAD} that do not read: memory grows by"] = _megabytes(memory)


def _attack_timeouts(folder: Path, dsn: str, figures: dict[str, str]) -> None:
    with _service(folder, dsn, REQUEST_TIMEOUT_S="5") as (port, _):
        kept_s = trickle(port, LARGE_LIST, 40)
    kept = f"{kept_s:.0f} s" if kept_s < 40 else "longer than 40 s"
    figures["a byte every half second, `REQUEST_TIMEOUT_S=5`: the connection is kept"] = kept


def _attack_writes(folder: Path, dsn: str, figures: dict[str, str]) -> None:
    with _service(folder, dsn) as (port, _):
        calm, _statuses = write(port, 5)
        with flood(port, SLOW_LIST, FLOOD):
            time.sleep(2)
            took, statuses = write(port, 15)
    figures["writes without load: p50, slowest"] = _latency(calm)
    figures[f"writes under {FLOOD} connections of a list that finds nothing: p50, slowest"] = _latency(took)
    figures["of them failed"] = f"{sum(statuses.values()) - statuses[200]} of {sum(statuses.values())}"


def _attack_connections(folder: Path, dsn: str, figures: dict[str, str]) -> None:
    with _service(folder, dsn) as (port, _), idle(port, IDLE):
        took = health(port, 10, 5)
    answered = [seconds for seconds in took if seconds is not None]
    figures[f"/health beside {IDLE:,} idle connections: answered in 5 s"] = f"{len(answered)} of {len(took)}"
    figures["slowest of these"] = f"{max(answered) * 1000:.0f} ms" if answered else "–"


def _megabytes(memory: Memory) -> str:
    return f"{memory.grown / 2**20:,.0f} MB"


def _latency(took: list[float]) -> str:
    return f"{statistics.median(took) * 1000:.0f} ms, {max(took) * 1000:,.0f} ms"


if __name__ == "__main__":
    main()
