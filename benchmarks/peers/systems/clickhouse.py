"""ClickHouse in process."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from benchmarks.peers import predictions
from benchmarks.peers.predictions import MODEL, PERCENTILES, START, Answer
from benchmarks.peers.systems.base import PEERS, System


class ClickHouse(System):
    """chdb: ClickHouse in the caller's process, without HTTP and without another's commit: what is possible at all."""

    name = "chdb"
    requirements = "chdb"
    batch = 10_000
    connections = 1
    is_in_process = True

    @contextmanager
    def running(self) -> Iterator[int]:
        script = str(PEERS / "chdb_server.py")
        self._process = subprocess.Popen(
            [self.python(), script, str(self.folder / "data")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        try:
            self._answer()
            yield self._process.pid
        finally:
            self._process.kill()
            self._process.communicate()

    def body(self, numbers: range) -> bytes:
        rows = (
            f"('{START + timedelta(milliseconds=n):%Y-%m-%d %H:%M:%S.%f}', '{MODEL}', {predictions.duration_ms(n)}, "
            f"{n % 50 != 0}, {'NULL' if n % 50 else repr('ValueError: no rooms')})"
            for n in numbers
        )
        return f"INSERT INTO predictions VALUES {', '.join(rows)}".encode()

    def sender(self) -> Any:
        return lambda body: self._query(body.decode())

    def stored(self) -> int:
        return int(self._query("SELECT count() FROM predictions")[0][0])

    def bytes_a_record(self) -> float:
        self._query("OPTIMIZE TABLE predictions FINAL")
        size = self._query("SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND table = 'predictions'")[0][0]
        return float(size) / self.stored()

    def fill(self, count: int) -> None:
        self._query("TRUNCATE TABLE predictions")
        self._query(f"""
            INSERT INTO predictions
            SELECT addMilliseconds(toDateTime64('{START:%Y-%m-%d %H:%M:%S}', 6, 'UTC'), number), '{MODEL}',
                   round(-50 * log(1 - (number * 7919 % 1000003) / 1000004.0), 3), number % 50 != 0,
                   if(number % 50 = 0, 'ValueError: no rooms', NULL)
            FROM   numbers({count})""")

    def ask(self, since: datetime, until: datetime) -> Answer:
        levels = ", ".join(str(each / 100) for each in PERCENTILES)
        [[count, errors, values]] = self._query(f"""
            SELECT count(), countIf(NOT was_successful), quantiles({levels})(duration_ms) FROM predictions
            WHERE  model_name = '{MODEL}' AND timestamp >= '{since:%Y-%m-%d %H:%M:%S}'
            AND    timestamp < '{until:%Y-%m-%d %H:%M:%S}'""")
        return {
            "count": int(count),
            "errors": int(errors),
            **{f"p{each}": v for each, v in zip(PERCENTILES, values, strict=True)},
        }

    def _query(self, statement: str) -> Any:
        assert self._process.stdin
        print(json.dumps(statement), file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise OSError("chdb has ended")
        return json.loads(line)
