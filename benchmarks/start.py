"""How long `python -m app` takes until /ready answers 200: on an empty folder, and again on what the first start left.

The CPU time is that of all processes that were started, the embedded PostgreSQL's too, up to that moment (Linux).
"""

from __future__ import annotations

import argparse
import http.client
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

from benchmarks.common import free_port, stopped
from examples.processes import NO_DATABASE

TICKS = os.sysconf("SC_CLK_TCK")
LOOK_EVERY_S = 0.01
IMPORT = [sys.executable, "-c", "import app.factory"]
IMPORTED, FIRST, LATER = "`python -c 'import app.factory'`", "first start, on an empty folder", "later start"


class Cost(NamedTuple):
    """Seconds on the clock, and seconds of CPU time."""

    wall: float
    cpu: float


def main() -> None:
    """Measure in turn, and print a table of the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=5, help="of each (5)")
    costs: dict[str, list[Cost]] = {IMPORTED: [], FIRST: [], LATER: []}
    for _ in range(parser.parse_args().count):
        costs[IMPORTED].append(_import())
        with tempfile.TemporaryDirectory(prefix="predlog-benchmark-") as folder:
            os.chmod(folder, 0o755)  # if root starts the server, it runs as another user
            data = Path(folder, "data")
            costs[FIRST].append(_start(data))
            costs[LATER].append(_start(data))
    print("| | wall s | CPU s | wall ÷ import | CPU ÷ import |\n|---|---:|---:|---:|---:|")
    one = _median(costs[IMPORTED])
    for name, each in costs.items():
        cost = _median(each)
        print(f"| {name} | {cost.wall:.2f} | {cost.cpu:.2f} | {cost.wall / one.wall:.1f} | {cost.cpu / one.cpu:.1f} |")


def _median(costs: list[Cost]) -> Cost:
    return Cost(median(cost.wall for cost in costs), median(cost.cpu for cost in costs))


def _import() -> Cost:
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(IMPORT, check=True)
    wall, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return Cost(wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def _start(data: Path) -> Cost:
    port = free_port()
    environment = {**os.environ, **NO_DATABASE, "EMBEDDED_DATA_DIR": str(data), "PORT": str(port)}
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "app"], env=environment, stderr=subprocess.DEVNULL, start_new_session=True
    )
    with stopped(process):
        while not _is_ready(port):
            if process.poll() is not None:
                raise SystemExit(f"the service ended with {process.returncode}")
            time.sleep(LOOK_EVERY_S)
        return Cost(time.monotonic() - began, _cpu_s(process.pid))


def _is_ready(port: int) -> bool:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        client.request("GET", "/ready")
        return client.getresponse().status == 200
    except OSError:
        return False
    finally:
        client.close()


def _cpu_s(root: int) -> float:
    """The CPU seconds of a process, of its descendants, and of those of them that have ended."""
    parents, ticks = {}, {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        pid = int(stat.parent.name)
        parents[pid] = int(fields[1])
        ticks[pid] = sum(map(int, fields[11:15]))
    family = {root}
    while more := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= more
    return sum(ticks[pid] for pid in family) / TICKS


if __name__ == "__main__":
    main()
