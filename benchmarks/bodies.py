"""What a body costs the service for each byte that is sent for it, against an honest batch.

    python -m benchmarks.bodies [--rounds 3]

The service runs with one worker on a PostgreSQL of our own. Each body is sent alone; what it costs is the processor
time that the service and its database took until the answer came, less what an empty batch takes. The ratio is the
cost of a byte against that of a byte of 10,000 usual records in the same encoding, and the median of the rounds.
"""

from __future__ import annotations

import argparse
import gzip
import http.client
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from benchmarks.common import free_port, running
from benchmarks.ingest import _json, _rows

JSON, NDJSON = "application/json", "application/x-ndjson"
VALID = '{"model_name":"a","duration_ms":1,"was_successful":true%s}'
UNKNOWN = ",".join(f'"{chr(97 + i)}":0' for i in range(20))
DEEP = VALID % f',"metadata":{{"a":{"[" * 700}{"]" * 700}}}'
NUMBERS = VALID.replace(":1,", ':"1",') % f',"metadata":{{"a":[{",".join(["1e5"] * 100)}]}}'

Body = tuple[str, bytes, str]


def main() -> None:
    """Measure, print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="how often all is measured")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="predlog-benchmark-") as folder:
        os.chmod(folder, 0o755)  # started by root, the server runs as somebody else
        port = free_port()
        environment = {**os.environ, "PORT": str(port), "WORKERS": "1", "EMBEDDED_DATA_DIR": str(Path(folder, "data"))}
        environment.pop("DATABASE_URL", None)
        with running([sys.executable, "-m", "app"], environment, port, "/ready"):
            _report(port, arguments.rounds)


def _report(port: int, rounds: int) -> None:
    print("| body | bytes sent | status | seconds of processor | ratio to an honest batch |")
    print("|---|---:|---:|---:|---:|")
    honest: dict[str, float] = {}
    for name, (content_type, body, encoding) in _bodies().items():
        status, costs = 0, []
        for _ in range(rounds):
            status, cost = _cost(port, content_type, body, encoding)
            _, nothing = _cost(port, JSON, b"[]", "identity")
            costs.append(max(0.0, cost - nothing))
        cost = statistics.median(costs)
        honest.setdefault(encoding, cost / len(body))
        ratio = cost / len(body) / honest[encoding]
        print(f"| {name} | {len(body):,} | {status} | {cost:.3f} | {ratio:,.1f} |", flush=True)


def _bodies() -> dict[str, Body]:
    """By name; the first of each encoding is the honest one."""
    rows = _json(_rows())
    return {
        "10,000 usual records": (JSON, rows, "identity"),
        "the same, gzip": _zip(JSON, rows),
        "16 MB of blanks": (JSON, b" " * (16 << 20), "identity"),
        "16 MB of blanks, gzip": _zip(JSON, b" " * (16 << 20)),
        "16 MB of empty lines, gzip": _zip(NDJSON, b"\n" * (16 << 20)),
        "700,000 gzip members": (JSON, gzip.compress(b"", mtime=0) * 700_000, "gzip"),
        "4,000 records with metadata 700 deep, gzip": _zip(JSON, _array(DEEP, 4000)),
        "10,000 records of 20 unknown fields": (JSON, _array(f"{{{UNKNOWN}}}", 10_000), "identity"),
        "the same, gzip ": _zip(JSON, _array(f"{{{UNKNOWN}}}", 10_000)),
        "10,000 × 1e5 × 100 and a text duration, gzip": _zip(JSON, _array(NUMBERS, 10_000)),
        "10,000 × {}": (JSON, _array("{}", 10_000), "identity"),
        "10,000 × {}, gzip": _zip(JSON, _array("{}", 10_000)),
        "10,000 lines that are no JSON, gzip": _zip(NDJSON, b"x\n" * 10_000),
        "10,000 records with null fields": (JSON, _array(VALID % ',"error":null', 10_000), "identity"),
        "10,000 valid records without seconds": (
            JSON,
            _array(VALID % ',"timestamp":"2025-06-09 12:00"', 10_000),
            "identity",
        ),
        "the same, gzip  ": _zip(JSON, _array(VALID % ',"timestamp":"2025-06-09 12:00"', 10_000)),
        "the same valid record 10,000 times, gzip": _zip(JSON, _array(VALID % "", 10_000)),
    }


def _zip(content_type: str, body: bytes) -> Body:
    return content_type, gzip.compress(body, 9), "gzip"


def _array(record: str, number: int) -> bytes:
    return f"[{','.join([record] * number)}]".encode()


def _cost(port: int, content_type: str, body: bytes, encoding: str) -> tuple[int, float]:
    """The status of the answer, and the processor time that was taken meanwhile by all descendants of ours."""
    processes = list(_descendants())
    before = {process: _seconds(process) for process in processes}
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    client.request("POST", "/api/v1/predict-logs", body, {"Content-Type": content_type, "Content-Encoding": encoding})
    answer = client.getresponse()
    answer.read()
    client.close()
    time.sleep(0.1)
    return answer.status, sum(_seconds(process) - before.get(process, 0.0) for process in _descendants())


def _descendants() -> Iterable[int]:
    parents = {int(path.name): _stat(int(path.name)) for path in Path("/proc").iterdir() if path.name.isdigit()}
    found = {os.getpid()}
    while more := {pid for pid, stat in parents.items() if stat and int(stat[1]) in found} - found:
        found |= more
    return found - {os.getpid()}


def _seconds(process: int) -> float:
    """How long its threads have run."""
    try:
        tasks = Path(f"/proc/{process}/task").iterdir()
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9
    except OSError:
        return 0.0


def _stat(process: int) -> list[str]:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


if __name__ == "__main__":
    main()
