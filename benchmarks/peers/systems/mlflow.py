"""MLflow's tracking server."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

from benchmarks.peers.predictions import MODEL, PERCENTILES, SQL_DURATION, Answer
from benchmarks.peers.systems.base import START_SQL, WORKERS, System


class MLflow(System):
    """Traces of the tracking server. https://mlflow.org/docs/latest/self-hosting/ advises PostgreSQL behind it."""

    name = "MLflow"
    requirements = "mlflow"
    batch = 100  # it takes many seconds for more
    table = "trace_info"
    headers: ClassVar[dict[str, str]] = {**System.headers, "x-mlflow-experiment-id": "0"}
    caller = f"""
import mlflow
def call():
    with mlflow.start_span("{MODEL}"):
        pass
"""

    def command(self) -> tuple[Sequence[str], dict[str, str], str]:
        store = self.dsn.replace("postgresql://", "postgresql+psycopg2://")
        command = [
            self.python(), "-m", "mlflow", "server", "--backend-store-uri", store,
            "--default-artifact-root", str(self.folder), "--host", "127.0.0.1", "--port", str(self.port),
            "--workers", str(WORKERS), "--uvicorn-opts", "--timeout-worker-healthcheck 60",
        ]  # fmt: skip
        path = f"{Path(self.python()).parent}:{os.environ['PATH']}"
        return command, {"PATH": path, "DO_NOT_TRACK": "true"}, "/health"

    def fill(self, count: int) -> None:
        self.sql(f"""
            INSERT INTO trace_info
                   (request_id, experiment_id, timestamp_ms, execution_time_ms, status, db_payload_generation,
                    trace_name)
            SELECT 'tr-' || md5(n::text), 0, extract(epoch FROM {START_SQL}) * 1000 + n, {SQL_DURATION}::bigint,
                   CASE WHEN n % 50 = 0 THEN 'ERROR' ELSE 'OK' END, 0, '{MODEL}'
            FROM   generate_series(0::bigint, {count - 1}) n""")
        self.sql("VACUUM ANALYZE trace_info")

    def ask(self, since: datetime, until: datetime) -> Answer:
        question = {
            "experiment_ids": ["0"], "view_type": 1,
            "start_time_ms": int(since.timestamp() * 1000), "end_time_ms": int(until.timestamp() * 1000) - 1,
        }  # fmt: skip
        percentiles = [{"aggregation_type": 4, "percentile_value": each} for each in PERCENTILES]
        counted = {"metric_name": "trace_count", "aggregations": [{"aggregation_type": 1}]}
        counts = self._metrics({**question, **counted, "dimensions": ["trace_status"]})
        by_status = {point["dimensions"]["trace_status"]: sum(point["values"].values()) for point in counts}
        [latency] = self._metrics({**question, "metric_name": "latency", "aggregations": percentiles})
        values = {f"p{float(key.lstrip('Pp')):g}": value for key, value in latency["values"].items()}
        return {"count": sum(by_status.values()), "errors": by_status.get("ERROR", 0), **values}

    def _metrics(self, question: Any) -> Any:
        return self.post("/api/3.0/mlflow/traces/metrics", question)["data_points"]
