"""The cost of logging a prediction for the thread that logs it.

Times every single call of `Client.log` and `Client.track`, with the service there and with the service down, beside
`logging.handlers.QueueHandler.emit` (the standard library's way to log without waiting) and a `requests.post` in line,
all in one run. The rounds of all of them are interleaved, so that other load on the machine affects each alike.

    python benchmarks/client.py [--quick]

Needs `requests`; finds the client in ../client/src if it is not installed.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import logging.handlers
import os
import platform
import queue
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

with contextlib.suppress(ImportError):
    sys.path.append(str(Path(__file__).resolve().parent.parent / "client" / "src"))
    import predlog

Timed = Callable[[], int]  # one call, in nanoseconds

BASELINE = "QueueHandler.emit"
INLINE = "requests.post"
BURST = 20  # calls in a row, then a pause, as requests come to a model server
PAUSE = 0.001  # seconds
MAX_BASELINES = 3.0
MIN_SAVING = 100.0
RECORD = {"model_name": "apartment_price", "duration_ms": 12.5, "was_successful": True}

SERVER = """
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        body = b'{"stored": 0, "duplicates": 0, "rejected": []}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pass
server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"""


@contextlib.contextmanager
def service() -> Iterator[str]:
    """A server of no work at all, in a process of its own."""
    process = subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.kill()
        process.wait()


def closed_port() -> str:
    """A URL that refuses connections."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{sock.getsockname()[1]}"


def emit() -> Timed:
    """The yardstick: format, copy and queue a record whose making is not counted; nothing listens to the queue."""
    records: queue.Queue[logging.LogRecord] = queue.Queue(-1)
    handler = logging.handlers.QueueHandler(records)
    clock = time.perf_counter_ns

    def timed() -> int:
        record = logging.LogRecord("m", logging.INFO, __file__, 1, "%s took %s ms", ("apartment_price", 12.5), None)
        began = clock()
        handler.emit(record)
        took = clock() - began
        if records.qsize() > 10_000:
            records.queue.clear()
        return took

    return timed


def log(client: predlog.Client) -> Timed:
    """One `log()`."""
    clock = time.perf_counter_ns

    def timed() -> int:
        began = clock()
        client.log("apartment_price", duration_ms=12.5, was_successful=True)
        return clock() - began

    return timed


def track(client: predlog.Client) -> Timed:
    """One `with track()` around nothing."""
    clock = time.perf_counter_ns

    def timed() -> int:
        began = clock()
        with client.track("apartment_price", version="3"):
            pass
        return clock() - began

    return timed


def post(url: str) -> Timed:
    """One request in line."""
    import requests

    clock = time.perf_counter_ns

    def timed() -> int:
        began = clock()
        requests.post(f"{url}/api/v1/predict-log", json=RECORD, timeout=10)
        return clock() - began

    return timed


def sample(timed: Timed, calls: int) -> list[int]:
    """Time that many calls, in bursts."""
    times: list[int] = []
    while len(times) < calls:
        times.extend(timed() for _ in range(min(BURST, calls - len(times))))
        time.sleep(PAUSE)
    return times


def measure(calls: int, rounds: int) -> dict[str, list[int]]:
    """Times of all calls, in nanoseconds, by name."""
    with service() as up, tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as stack:
        clients = {
            "idle": predlog.Client(up),
            "idle, sample=0.1": predlog.Client(up, sample=0.1),
            "server down": predlog.Client(closed_port(), exit_timeout=0),
            "server down, queue full": predlog.Client(closed_port(), exit_timeout=0, queue_size=100),
            "idle, spooling": predlog.Client(up, spool_dir=os.path.join(directory, "up")),
            "server down, spooling": predlog.Client(
                closed_port(), exit_timeout=0, spool_dir=os.path.join(directory, "down")
            ),
        }
        for client in clients.values():
            stack.callback(client.close)
        subjects = {BASELINE: emit()}
        for state, client in clients.items():
            subjects[f"log(), {state}"] = log(client)
            subjects[f"track(), {state}"] = track(client)
        subjects[INLINE] = post(up)
        times: dict[str, list[int]] = {name: [] for name in subjects}
        for name, timed in subjects.items():
            sample(timed, 200 if name != INLINE else 20)  # threads, connections and caches are there afterwards
        for _ in range(rounds):
            for name, timed in subjects.items():
                times[name] += sample(timed, (calls if name != INLINE else calls // 20) // rounds)
        return times


def percentile(ordered: list[int], share: float) -> float:
    """The value below which that share of the sorted times lies, in microseconds."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] / 1000


def report(times: dict[str, list[int]]) -> bool:
    """Print the table; return whether every aim was reached."""
    figures = {}
    for name, values in times.items():
        values.sort()
        figures[name] = (percentile(values, 0.5), percentile(values, 0.99), sum(values) / len(values) / 1000)
    base, inline = figures[BASELINE], figures[INLINE]
    print("| µs on the caller's thread | p50 | p99 | mean | p50 / emit | p99 / emit | post / p50 |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    reached = True
    for name, (p50, p99, mean) in figures.items():
        ratios = p50 / base[0], p99 / base[1], inline[0] / p50
        print(f"| {name} | {p50:,.2f} | {p99:,.2f} | {mean:,.2f} |", end="")
        print(f" {ratios[0]:,.2f} | {ratios[1]:,.2f} | {ratios[2]:,.0f} |")
        if name not in (BASELINE, INLINE):
            reached = reached and max(ratios[:2]) <= MAX_BASELINES and ratios[2] >= MIN_SAVING
    aim = f"at most {MAX_BASELINES:g} times emit at p50 and p99, and under a hundredth of requests.post"
    print(f"\nAim ({aim}): {'reached' if reached else 'MISSED'}")
    return reached


def machine() -> str:
    """Return a description of the machine."""
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
    return f"{os.cpu_count()} cores, {model}, {platform.system()}, Python {platform.python_version()}"


def main() -> int:
    """Run the benchmark; return 1 if an aim was missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few seconds, for a first look")
    options = parser.parse_args()
    logging.getLogger("predlog").setLevel(logging.CRITICAL)
    calls, rounds = (4_000, 4) if options.quick else (40_000, 20)
    print(f"{machine()}; {calls:,} calls each in {rounds} interleaved rounds, requests.post a twentieth\n")
    return 0 if report(measure(calls, rounds)) else 1


if __name__ == "__main__":
    sys.exit(main())
