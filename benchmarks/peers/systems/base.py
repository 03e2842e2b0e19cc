"""A system that logs predictions, run as its documentation says, with a database of its own on the same PostgreSQL."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

from benchmarks import common
from benchmarks.peers import predictions
from benchmarks.peers.predictions import START, Answer

PEERS = Path(__file__).parents[1]
ROOT = PEERS.parents[1]
WORKERS = 2
START_SQL = f"TIMESTAMPTZ '{START.isoformat()}'"


class System:
    """A system that logs predictions: how it is started, written to and asked."""

    name: ClassVar[str]
    requirements: ClassVar[str] = ""
    batch: ClassVar[int] = 500
    connections: ClassVar[int] = 4
    is_in_process: ClassVar[bool] = False
    path: ClassVar[str] = "/v1/traces"
    headers: ClassVar[dict[str, str]] = {"Content-Type": "application/x-protobuf"}

    def __init__(self, dsn: str, folder: Path) -> None:
        """`dsn` names an empty database; `folder` an empty folder."""
        self.dsn, self.folder = dsn, folder
        self.port = common.free_port()

    @contextmanager
    def running(self) -> Iterator[int]:
        """Run the system during the block; yields the process that has started it."""
        command, environment, path = self.command()
        with common.running(command, {**os.environ, **environment}, self.port, path, self.folder) as process:
            yield process.pid

    def command(self) -> tuple[Sequence[str], dict[str, str], str]:
        """Return how it is started: the command, its environment, and a path that answers 200 once it is ready."""
        raise NotImplementedError  # each system has its own

    def body(self, numbers: range) -> bytes:
        """Return predictions as the body of a request."""
        return predictions.spans(numbers)

    def sender(self) -> Any:
        """Return a function that sends a body over a connection of its own, and raises OSError if it was not taken."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)

        def send(body: bytes) -> None:
            path = self.path if body[:1] != b"{" else "/api/v1/predict-log"
            connection.request("POST", path, body, self.headers)
            response = connection.getresponse()
            answer = response.read()
            if response.status != 200:
                raise OSError(f"{self.name} answered {response.status}: {answer[:300]!r}")

        return send

    def stored(self) -> int:
        """Return how many predictions are in the database."""
        return int(self.sql(f"SELECT count(*) FROM {self.table}"))

    table: ClassVar[str]

    def sql(self, statement: str) -> Any:
        """Run a statement in its database; returns the first value."""
        with common.connect(self.dsn) as connection, connection.cursor() as cursor:
            cursor.execute(statement)
            row = cursor.fetchone() if cursor.description else None
            return row[0] if row else None

    def bytes_a_record(self) -> float:
        """Return the size of its tables and indexes, divided by the predictions in them."""
        self.sql("VACUUM FULL")
        used = """SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class c
                  WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND reltuples > 0"""
        self.sql("ANALYZE")
        return float(self.sql(used)) / self.stored()

    def fill(self, count: int) -> None:
        """Have the predictions 0 … count - 1 in the database, by SQL, because over HTTP some would take hours."""
        raise NotImplementedError  # each system has its own

    def ask(self, since: datetime, until: datetime) -> Answer:
        """Return count, errors and percentiles of a range, as the system's API gives them."""
        raise NotImplementedError  # each system has its own

    def post(self, path: str, question: Any) -> Any:
        """Ask by POST, with JSON; returns the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        connection.request("POST", path, json.dumps(question), {"Content-Type": "application/json"})
        response = connection.getresponse()
        body = response.read()
        if response.status != 200:
            raise OSError(f"{self.name} answered {response.status}: {body[:500]!r}")
        return json.loads(body)

    def python(self) -> str:
        """Return the Python of its environment, which is made the first time."""
        if not self.requirements:
            return sys.executable
        python = PEERS / f".venv-{self.requirements}" / "bin" / "python"
        if not python.exists():
            file = PEERS / f"{self.requirements}.txt"
            print(f"installing {file.name}", file=sys.stderr)
            subprocess.run([sys.executable, "-m", "venv", python.parents[1]], check=True)
            subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", "-r", file], check=True)
        return str(python)

    caller: ClassVar[str] = ""

    def caller_us(self) -> float | None:
        """Return the microseconds that one call costs the caller who uses the system's own library: the median."""
        if not self.caller:
            return None
        script = f"import json, time\n{self.caller}\n{TIMED}"
        environment = {
            **os.environ, "URL": f"http://127.0.0.1:{self.port}", "OTEL_SDK_DISABLED": "false",
            "PYTHONPATH": str(ROOT / "client" / "src") if not self.requirements else "",
            "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{self.port}",
            "PHOENIX_COLLECTOR_ENDPOINT": f"http://127.0.0.1:{self.port}/v1/traces",
        }  # fmt: skip
        done = subprocess.run(
            [self.python(), "-c", script], env=environment, cwd=self.folder, capture_output=True, text=True, timeout=300
        )
        if done.returncode:
            raise OSError(done.stderr[-2000:])
        return float(done.stdout.split()[-1])


# A call every millisecond: no system is meant for a caller that does nothing but log.
TIMED = """
times = []
for n in range(1500):
    began = time.perf_counter()
    call()
    times.append(time.perf_counter() - began)
    time.sleep(0.001)
print(sorted(times[500:])[500] * 1e6)
import os, sys
sys.stdout.flush()
os._exit(0)
"""


@contextmanager
def made(kind: type[System], admin: Any) -> Iterator[System]:
    """A system with an empty database and folder."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="predlog-benchmark-")))
        dsn = stack.enter_context(common.database(admin, f"predlog_peers_{kind.__name__.lower()}"))
        yield kind(dsn, folder)


def wait_until_still(system: System, seconds: float = 300) -> None:
    """Wait until no more predictions arrive in the database: a system may have taken more than it has stored."""
    until, last = time.monotonic() + seconds, -1
    while (stored := system.stored()) != last and time.monotonic() < until:
        last = stored
        time.sleep(3)


def wait_for(system: System, count: int, seconds: float) -> float:
    """Wait until so many predictions are in the database; returns when that was (time.monotonic())."""
    until = time.monotonic() + seconds
    while system.stored() < count and time.monotonic() < until:
        time.sleep(0.1)
    return time.monotonic()
