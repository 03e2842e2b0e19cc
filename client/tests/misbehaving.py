"""A Predlog service that misbehaves on request: real sockets, a strict reader, and a count of all it was told."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import math
import random
import socket
import struct
import threading
import time
import uuid
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

KNOWN = {
    "model_name", "duration_ms", "was_successful", "timestamp", "request_id", "model_version", "error", "metadata",
}  # fmt: skip
SUMMARY = {
    "summary_id", "model_name", "timestamp", "count", "successful_count", "duration_ms_sum", "duration_ms_min",
    "duration_ms_max", "bins",
}  # fmt: skip
REASONS = {"queue_full", "spool_full", "rejected", "expired", "exit"}


def holds_nul(value: Any) -> bool:
    """Whether a NUL character is anywhere in it."""
    if isinstance(value, dict):
        return any(holds_nul(item) for pair in value.items() for item in pair)
    return any(map(holds_nul, value)) if isinstance(value, list) else "\x00" in str(value)


def errors_of(record: Any) -> dict[str, list[str]]:
    """What the service's contract finds wrong with a record."""
    if not isinstance(record, dict):
        return {"_schema": ["Invalid input type."]}
    if "summary_id" in record:
        return errors_of_summary(record)
    errors = {name: ["Unknown field."] for name in record.keys() - KNOWN}
    name, duration = record.get("model_name"), record.get("duration_ms")
    if not isinstance(name, str) or not 1 <= len(name) <= 200:
        errors["model_name"] = ["Length must be between 1 and 200."]
    if isinstance(duration, bool) or not isinstance(duration, (int, float)) or not 0 <= duration < math.inf:
        errors["duration_ms"] = ["Must be greater than or equal to 0."]
    if type(record.get("was_successful")) is not bool:
        errors["was_successful"] = ["Not a valid boolean."]
    if len(json.dumps(record.get("metadata"), ensure_ascii=False, separators=(",", ":")).encode()) > 4096:
        errors["metadata"] = ["Longer than 4096 bytes."]
    if len(record.get("error") or "") > 4096:
        errors["error"] = ["Longer than maximum length 4096."]
    if holds_nul(record):
        errors["_schema"] = ["NUL characters cannot be stored."]
    try:
        uuid.UUID(record["request_id"])
        assert datetime.fromisoformat(record["timestamp"]).utcoffset() == timedelta(0)
    except (KeyError, ValueError, AssertionError, TypeError, AttributeError):
        errors["request_id"] = ["request_id and timestamp are what makes a retry safe."]
    return errors


def errors_of_summary(summary: dict[str, Any]) -> dict[str, list[str]]:
    """What the service's contract finds wrong with a summary; a version may be left out."""
    count, total = summary["count"], summary["duration_ms_sum"]
    low, high = summary["duration_ms_min"], summary["duration_ms_max"]
    bins = [place for place, _ in summary["bins"]]
    good = (
        summary.keys() - {"model_version"} == SUMMARY
        and uuid.UUID(summary["summary_id"]).version == 7
        and datetime.fromisoformat(summary["timestamp"]).second == 0
        and datetime.fromisoformat(summary["timestamp"]).utcoffset() == timedelta(0)
        and 0 < summary["successful_count"] == count == sum(counted for _, counted in summary["bins"])
        and (low - 5e-7) * count * (1 - 1e-9) <= total <= (high + 5e-7) * count * (1 + 1e-9)
        and bins == sorted(set(bins))
        and len(bins) <= 2000
    )
    return {} if good else {"bins": ["This summary cannot be true."]}


class Service(ThreadingHTTPServer):
    """`moods` holds what to do with the next batches, one each; `mood` is what follows. See Handler.do_POST."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, port: int = 0) -> None:
        self.mood: Any = "ok"
        self.moods: deque[Any] = deque()
        self.most_records = 10_000
        self.refuse: Callable[[Any], bool] = lambda record: False
        self.api_key: str | None = None
        # Read as lists below: a test looks while other threads put more into them.
        self.records: dict[tuple[str, str], dict[str, Any]] = {}
        self.copies: Counter[tuple[str, str]] = Counter()
        self.reports: dict[str, dict[str, Any]] = {}
        self.report_copies: Counter[str] = Counter()
        self.requests: list[dict[str, Any]] = []
        self.queries: list[tuple[str, dict[str, list[str]]]] = []
        self.predictions: list[dict[str, Any]] = []
        self.most_on_a_page = 1000
        self.exports: deque[Any] = deque()  # one for each request: all that is sent, or a status
        self.histogram: dict[str, Any] = {}
        self.released = threading.Event()
        self.lock = threading.Lock()
        self.sockets: set[socket.socket] = set()
        super().__init__(("127.0.0.1", port), Handler)
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def lost(self) -> int:
        return sum(report["count"] for report in list(self.reports.values()))

    @property
    def models(self) -> Counter[str]:
        return Counter(record["model_name"] for record in list(self.records.values()))

    @property
    def summaries(self) -> list[dict[str, Any]]:
        return [record for record in list(self.records.values()) if "summary_id" in record]

    @property
    def counted(self) -> Counter[str]:
        """All predictions by model: whole ones, and those in summaries."""
        counts: Counter[str] = Counter()
        for record in list(self.records.values()):
            counts[record["model_name"]] += record.get("count", 1)
        return counts

    def lost_by(self, *names: str) -> Counter[Any]:
        counts: Counter[Any] = Counter()
        for report in list(self.reports.values()):
            counts[tuple(report[name] for name in names) if len(names) > 1 else report[names[0]]] += report["count"]
        return counts

    def store(self, records: list[Any]) -> tuple[int, dict[str, Any]]:
        said: dict[str, Any] = {"stored": 0, "duplicates": 0, "rejected": []}
        for index, record in enumerate(records):
            errors = {"model_name": ["refused"]} if self.refuse(record) else errors_of(record)
            if errors:
                said["rejected"].append({"index": index, "errors": errors})
                continue
            key = record.get("summary_id") or record["request_id"], record["timestamp"]
            said["duplicates" if key in self.records else "stored"] += 1
            self.records.setdefault(key, record)
            self.copies[key] += 1
        if not said["rejected"]:
            return 200, said
        return (422 if len(said["rejected"]) == len(records) else 207), said

    def note_dropped(self, header: str | None) -> None:
        if header is None:
            return
        assert header.isascii() and len(header) <= 4096, "the header is too long"
        reports = json.loads(header)
        assert 0 < len(reports) <= 20
        for report in reports:
            assert set(report) == {"id", "model_name", "reason", "count", "timestamp"}, report
            assert uuid.UUID(report["id"]).version == 7 and report["reason"] in REASONS and report["count"] > 0
            assert datetime.fromisoformat(report["timestamp"]).second == 0
            self.reports.setdefault(report["id"], report)
            self.report_copies[report["id"]] += 1

    def settle(self) -> None:
        """Wait until each request of clients that have ended is answered: `mood` may be looked at long after their end.

        Connections are accepted in the order in which they were made.
        """
        last = http.client.HTTPConnection("127.0.0.1", self.server_port, timeout=60)
        last.request("GET", "/")
        last.getresponse().read()
        last.close()
        wait_until(lambda: not self.sockets)

    def stop(self) -> None:
        """Go away as a killed server does: the port is closed, and so are the connections."""
        self.released.set()
        self.shutdown()
        self.server_close()
        with self.lock:
            sockets = list(self.sockets)
        for sock in sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self.lock:
            self.sockets.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self.lock:
            self.sockets.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Broken connections are what this server is about."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Service

    def do_POST(self) -> None:
        """Moods: ok, reset, store_and_reset, store_and_half, hang, close, page, wrong_door, a status,
        (status, headers), or a function of records and headers that gives one."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        service = self.server
        mood = service.moods.popleft() if service.moods else service.mood
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        try:
            records = json.loads(body, parse_constant=lambda name: 1 / 0)
        except (ValueError, ZeroDivisionError, RecursionError):
            return self.answer(400, {"code": 400})
        mood = mood(records, self.headers) if callable(mood) else mood
        seen = {
            "path": self.path,
            "count": len(records),
            "mood": mood,
            "client": self.client_address,
            "at": time.time(),
        }
        service.requests.append({**seen, "headers": dict(self.headers), "bytes": len(body)})
        if mood == "hang":
            service.released.wait(30)
            self.reset()
        elif mood == "reset":
            self.reset()
        elif mood == "wrong_door":
            self.answer(400, "The plain HTTP request was sent to HTTPS port")
        elif isinstance(mood, (int, tuple)):
            status, headers = mood if isinstance(mood, tuple) else (mood, {})
            self.answer(status, {"code": status, "message": "no"}, headers)
        elif service.api_key is not None and self.headers.get("Authorization") != f"Bearer {service.api_key}":
            self.answer(401, {"code": 401})
        elif len(records) > service.most_records:
            self.answer(413, {"code": 413})
        elif mood == "page":
            self.answer(200, {"hello": "I am not Predlog"})
        else:
            with service.lock:
                status, said = service.store(records)
                service.note_dropped(self.headers.get("Predlog-Dropped"))
            if mood == "store_and_reset":
                self.reset()
            elif mood == "store_and_half":
                self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n" + json.dumps(said).encode())
                self.close_connection = True
            else:
                self.answer(status, said)
                self.close_connection = self.close_connection or mood == "close"

    def do_GET(self) -> None:
        service = self.server
        parts = urlsplit(self.path)
        query = parse_qs(parts.query)
        service.queries.append((parts.path, query))
        if isinstance(service.mood, int):
            self.answer(service.mood, {"code": service.mood, "errors": {"from": ["Not a valid datetime."]}})
        elif service.mood == "page":
            self.answer(200, "I am not Predlog")
        elif parts.path == "/api/v1/predictions":
            rows = [
                row
                for row in service.predictions
                if row["model_name"] in query.get("model_name", [row["model_name"]])
                and (query.get("was_successful") != ["false"] or not row["was_successful"])
                and row["timestamp"] >= query.get("from", [""])[0]
            ]
            rows.sort(key=lambda row: row["timestamp"], reverse=True)
            start = int(query.get("cursor", ["0"])[0])
            end = start + min(int(query.get("limit", ["100"])[0]), service.most_on_a_page)
            following = urlencode({**query, "cursor": end}, doseq=True)
            self.answer(200, rows[start:end], {"Link": f'<?{following}>; rel="next"'} if rows[end:] else None)
        elif parts.path == "/api/v1/predictions/export":
            self.export(service.exports.popleft())
        elif parts.path == "/api/v1/stats/histogram":
            self.answer(200, service.histogram)
        else:
            self.answer(200, {"total_requests": 1234, "success_rate": 0.99998, "percentiles": {"50": 1.5}, "min": None})

    def export(self, sent: Any) -> None:
        """Send bytes in chunks; of a tuple the connection breaks before the last chunk, or gzip's end "is missing"."""
        if isinstance(sent, int):
            return self.answer(sent, {"code": sent, "message": "no such format"})
        is_packed_whole = isinstance(sent, bytes)
        whole = is_packed_whole or sent[1:] == ("is missing",)
        body = sent if is_packed_whole else sent[0]
        packed = zlib.compressobj(wbits=31)
        if "gzip" in self.headers["Accept-Encoding"]:
            body = packed.compress(body) + packed.flush(zlib.Z_FINISH if is_packed_whole else zlib.Z_SYNC_FLUSH)
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        if "gzip" in self.headers["Accept-Encoding"]:
            self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(body), body) if body else b"")
        if whole:
            self.wfile.write(b"0\r\n\r\n")
        self.close_connection = self.close_connection or not whole

    def answer(self, status: int, said: Any, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def reset(self) -> None:
        """Close the connection so that the other side gets a reset."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


@contextlib.contextmanager
def free_port() -> Iterator[int]:
    """Return a free port, which nobody else gets as long as the block lasts, and where nobody listens."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


def port_to_serve_at() -> int:
    """Return a port for a server that is started later.

    It lies below those that systems give to connections, and to servers that ask for any: none takes it meanwhile.
    """
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with contextlib.suppress(OSError), socket.socket() as sock:
            sock.bind(("127.0.0.1", port))
            return port


def uwsgi_is_idle(stats_port: int) -> bool:
    """Whether no worker of uWSGI is in a request: one that is, and be it after its answer, runs no exit handlers."""
    with socket.create_connection(("127.0.0.1", stats_port), timeout=60) as sock:
        said = b"".join(iter(partial(sock.recv, 65536), b""))
    return all(worker["status"] == "idle" for worker in json.loads(said)["workers"])


def wait_until(condition: Callable[[], Any], seconds: float = 60.0) -> None:
    """Wait for it; fail when it does not come."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.01)
