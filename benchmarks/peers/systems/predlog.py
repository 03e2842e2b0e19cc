"""Predlog itself."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import ClassVar
from urllib.parse import urlencode

from benchmarks.peers import predictions
from benchmarks.peers.predictions import MODEL, PERCENTILES, SQL_DURATION, Answer
from benchmarks.peers.systems.base import ROOT, START_SQL, WORKERS, System
from examples.processes import NO_DATABASE


class Predlog(System):
    name = "Predlog"
    table = "prediction_log"
    path = "/api/v1/predict-logs"
    headers: ClassVar[dict[str, str]] = {"Content-Type": "application/json"}
    caller = f"""
import os, predlog
log = predlog.Client(os.environ["URL"])
def call():
    with log.track("{MODEL}"):
        pass
"""

    def command(self) -> tuple[Sequence[str], dict[str, str], str]:
        settings = {**NO_DATABASE, "DATABASE_URL": self.dsn, "PORT": str(self.port), "WORKERS": str(WORKERS)}
        settings["PYTHONPATH"] = str(ROOT)
        return [sys.executable, "-m", "app"], settings, "/ready"

    def body(self, numbers: range) -> bytes:
        return predictions.records(numbers) if len(numbers) > 1 else predictions.record(numbers[0])

    def fill(self, count: int) -> None:
        for first in range(0, count, 100_000):
            last = min(first + 100_000, count) - 1
            self.sql(f"""
                INSERT INTO prediction_log (timestamp, model_name, duration_ms, was_successful, error)
                SELECT {START_SQL} + n * INTERVAL '1 ms', '{MODEL}', {SQL_DURATION}, n % 50 <> 0,
                       CASE WHEN n % 50 = 0 THEN 'ValueError: no rooms' END
                FROM   generate_series({first}::bigint, {last}) n""")
        command = [sys.executable, "-m", "flask", "--app", "wsgi", "stats", "refresh"]
        subprocess.run(
            command, env={**os.environ, **NO_DATABASE, "DATABASE_URL": self.dsn}, check=True, capture_output=True
        )

    def ask(self, since: datetime, until: datetime) -> Answer:
        query = {"model_name": MODEL, "from": since.isoformat(), "to": until.isoformat()}
        query["percentiles"] = ",".join(map(str, PERCENTILES))
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        connection.request("GET", f"/api/v1/stats?{urlencode(query)}")
        said = json.loads(connection.getresponse().read())
        percentiles = {f"p{key}": value for key, value in said["percentiles"].items()}
        return {"count": said["total_requests"], "errors": said["failed_requests"], **percentiles}
