"""GET /metrics: the figures of all workers, and the condition of the database, for Prometheus."""

from __future__ import annotations

import contextlib
import glob
import os
import platform
import time
from collections.abc import Iterable, Iterator

from flask import Flask, Response, g, request
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from app.application.database_stats import Condition
from app.presentation.api import Blueprint
from app.presentation.instruments import EXTENSION, Meters, meters
from app.presentation.middleware.concurrency import ARRIVED
from app.presentation.services import services
from app.presentation.version import __version__

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
SINGLE_DOOR = "predictions.log_prediction"
EXAMPLE = """# HELP predlog_records_stored_total Records that were committed.
# TYPE predlog_records_stored_total counter
predlog_records_stored_total 1024.0
"""

blp = Blueprint("metrics", __name__, description="The figures of the service")


def register(app: Flask, pool_size: int) -> Meters:
    """Count every answered request; return the meters for everything else."""
    if folder := os.environ.get(FOLDER):
        _forget(os.getpid(), folder)  # a worker before us that had the same number
    app.extensions[EXTENSION] = counting = Meters(pool_size)
    app.after_request(_count)
    return counting


@blp.route("/metrics")
@blp.response(
    200, {"type": "string"}, content_type="text/plain", example=EXAMPLE, description="Prometheus' text format, 0.0.4"
)
@blp.errors(503)
def metrics() -> Response:
    """Show the figures of all workers of this instance, for Prometheus.

    Figures of the database are a few seconds old. While it is away, `predlog_database_up` is 0 and the rest is
    answered as ever.
    """
    now = CollectorRegistry()
    if folder := os.environ.get(FOLDER):
        _forget_the_dead(folder)
        MultiProcessCollector(now, folder)
    now.register(_Now(services().watch.condition(), meters().pool_size))
    counted = b"" if folder else generate_latest(meters().registry)
    return Response(counted + generate_latest(now), content_type=CONTENT_TYPE_PLAIN_0_0_4)


def _count(response: Response) -> Response:
    rule, status = request.url_rule, response.status_code
    seconds = time.perf_counter() - request.environ.get(ARRIVED, g.began)
    meters().request(rule.rule if rule else None, request.method, status, seconds)
    if status in (400, 403, 409, 422) and rule and rule.endpoint == SINGLE_DOOR:
        _count_rejected(status)
    return response


def _count_rejected(status: int) -> None:
    if status == 403:
        meters().not_allowed()
        return
    problems = g.get("errors", {}).get("json")  # noted by errors.py, which answers with them
    meters().rejected(problems if isinstance(problems, dict) else None)


def _forget_the_dead(folder: str) -> None:
    """Remove the gauges of killed workers, which hold no connections any more; their counters stay."""
    for path in glob.glob(os.path.join(folder, "gauge_live*_*.db")):
        pid = int(path.rpartition("_")[2].removesuffix(".db"))
        if not _is_alive(pid):
            _forget(pid, folder)


def _forget(pid: int, folder: str) -> None:
    with contextlib.suppress(FileNotFoundError):  # another worker was first
        mark_process_dead(pid, folder)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


class _Now(Collector):
    """Figures that are read when they are scraped."""

    def __init__(self, condition: Condition | None, pool_size: int) -> None:
        self._condition = condition
        self._pool_size = pool_size

    def collect(self) -> Iterable[Metric]:
        """Called by prometheus_client."""
        build = {"version": __version__, "python": platform.python_version()}
        yield InfoMetricFamily("predlog_build", "The service.", build)
        yield _gauge("pool_size", "Database connections of each worker, and of each database.", self._pool_size)
        yield _gauge("database_up", "Whether the database answers within 2 seconds.", int(self._condition is not None))
        if self._condition:
            yield from _condition(self._condition)


def _condition(condition: Condition) -> Iterator[Metric]:
    yield InfoMetricFamily("predlog_database", "The storage engine.", {"engine": condition.engine})
    yield _gauge("database_size_bytes", "The database on disk.", condition.size_bytes)
    yield _gauge("aggregate_lag_seconds", "How far the aggregates are behind.", condition.lag_s)
    yield _gauge("hours_pending_repair", "Hours that changed behind the aggregates.", condition.hours_pending_repair)


def _gauge(name: str, meaning: str, value: float) -> Metric:
    return GaugeMetricFamily(f"predlog_{name}", meaning, value)
