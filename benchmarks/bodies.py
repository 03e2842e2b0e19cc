"""The cost of hostile bodies for each byte that is sent, against an honest batch.

    python -m benchmarks.bodies [--rounds 3]

The service runs with one worker on an embedded PostgreSQL. Each body is sent alone. Its cost is the processor time of
the service and its database until the answer, minus that of an empty batch. The ratio divides the cost of a byte by
that of a byte of 10,000 usual records in the same encoding; it is the median of the rounds.
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

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from benchmarks.common import free_port, running
from benchmarks.ingest import _json, _rows
from examples.processes import NO_DATABASE

JSON, NDJSON = "application/json", "application/x-ndjson"
VALID = '{"model_name":"a","duration_ms":1,"was_successful":true%s}'
UNKNOWN = ",".join(f'"{chr(97 + i)}":0' for i in range(20))
DEEP = VALID % f',"metadata":{{"a":{"[" * 700}{"]" * 700}}}'
NUMBERS = VALID.replace(":1,", ':"1",') % f',"metadata":{{"a":[{",".join(["1e5"] * 100)}]}}'

BATCHES, TRACES, EVENTS = "/api/v1/predict-logs", "/v1/traces", "/v1/cloudevents"
SPANS_JSON, SPANS, CLOUDEVENTS = "application/json", "application/x-protobuf", "application/cloudevents-batch+json"

Body = tuple[str, bytes, str]


def main() -> None:
    """Measure, print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="how often all is measured")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="predlog-benchmark-") as folder:
        os.chmod(folder, 0o755)  # if root starts the server, it runs as another user
        port = free_port()
        environment = {**os.environ, **NO_DATABASE, "EMBEDDED_DATA_DIR": f"{folder}/data"}
        environment |= {"PORT": str(port), "WORKERS": "1"}
        with running([sys.executable, "-m", "app"], environment, port, "/ready"):
            _report(port, arguments.rounds)


def _report(port: int, rounds: int) -> None:
    print("| body | bytes sent | status | seconds of processor | ratio to an honest batch |")
    print("|---|---:|---:|---:|---:|")
    honest: dict[str, float] = {}
    doors = {**dict.fromkeys(_bodies(), BATCHES), **dict.fromkeys(_span_bodies(), TRACES)}
    doors |= dict.fromkeys(_event_bodies(), EVENTS)
    for name, (content_type, body, encoding) in {**_bodies(), **_span_bodies(), **_event_bodies()}.items():
        status, costs = 0, []
        for _ in range(rounds):
            status, cost = _cost(port, doors[name], content_type, body, encoding)
            _, nothing = _cost(port, BATCHES, JSON, b"[]", "identity")
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


def _span_bodies() -> dict[str, Body]:
    """Return bodies for the endpoint of OpenTelemetry, usual and hostile ones."""
    calls, others = _spans("gen_ai.request.model"), _spans("http.route")
    group = b"\x0a" + _length(2 * 8_000_000) + b"\x12\x00" * 8_000_000
    empty = b'{"resourceSpans":[' + b"{}," * 499_000 + b"{}]}"
    wide = '{"arrayValue":{"values":[' + "{}," * 499_000 + "{}]}}"
    deep = '{"kvlistValue":{"values":[{"value":' * 200 + f'{{"":[{"[]," * 5_000_000}[]]}}' + "}]}}" * 200
    return {
        "10,000 spans of predictions, protobuf": (SPANS, calls, "identity"),
        "the same spans, gzip": _zip(SPANS, calls),
        "10,000 spans of no prediction, protobuf": (SPANS, others, "identity"),
        "the same spans of no prediction, gzip": _zip(SPANS, others),
        "8,000,000 empty scopes, protobuf": (SPANS, group, "identity"),
        "the same scopes, gzip": _zip(SPANS, group),
        "499,000 empty resources, JSON, gzip": _zip(SPANS_JSON, empty),
        "an attribute of 499,000 empty values, JSON, gzip": _zip(SPANS_JSON, _attribute(wide)),
        "15 MB in an attribute 200 deep, JSON, gzip": _zip(SPANS_JSON, _attribute(deep)),
    }


def _attribute(value: str) -> bytes:
    span = f'{{"attributes":[{{"key":"predlog.metadata.a","value":{value}}}]}}'
    return f'{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{span}]}}]}}]}}'.encode()


def _spans(key: str) -> bytes:
    request = ExportTraceServiceRequest()
    spans = request.resource_spans.add().scope_spans.add().spans
    for number in range(10_000):
        start = 1_749_470_400_000_000_000 + number
        span = spans.add(trace_id=os.urandom(16), span_id=os.urandom(8), name="chat", start_time_unix_nano=start)
        span.end_time_unix_nano = start + 124_000_000
        for name in (key, "gen_ai.operation.name", "gen_ai.provider.name", "server.address", "user.id"):
            span.attributes.add(key=name).value.string_value = f"value {number % 7}"
    return bytes(request.SerializeToString())


def _length(number: int) -> bytes:
    """A number as protobuf writes it."""
    return bytes([number & 0x7F | 0x80]) + _length(number >> 7) if number > 0x7F else bytes([number])


def _event_bodies() -> dict[str, Body]:
    """Return bodies for the endpoint of inference loggers."""
    halves = [
        f'{{"specversion":"1.0","id":"{number}","source":"/","type":"org.kubeflow.serving.inference.{side}",'
        f'"time":"2025-06-09T12:00:0{second}Z","inferenceservicename":"a","data":{{"instances":[[1,2,3,4]]}}}}'
        for number in range(5_000)
        for second, side in enumerate(("request", "response"))
    ]
    body = f"[{','.join(halves)}]".encode()
    return {
        "5,000 requests and their responses": (CLOUDEVENTS, body, "identity"),
        "the same events, gzip": _zip(CLOUDEVENTS, body),
        "499,000 empty events, gzip": _zip(CLOUDEVENTS, _array("{}", 499_000)),
    }


def _zip(content_type: str, body: bytes) -> Body:
    return content_type, gzip.compress(body, 9), "gzip"


def _array(record: str, number: int) -> bytes:
    return f"[{','.join([record] * number)}]".encode()


def _cost(port: int, path: str, content_type: str, body: bytes, encoding: str) -> tuple[int, float]:
    """Return the status of the answer, and the processor time that all descendants of this process took meanwhile."""
    processes = list(_descendants())
    before = {process: _seconds(process) for process in processes}
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    client.request("POST", path, body, {"Content-Type": content_type, "Content-Encoding": encoding})
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
