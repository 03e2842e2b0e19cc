"""The metrics of a worker. Every label has few values, and none comes from a request."""

from __future__ import annotations

from collections import Counter as Counts
from collections.abc import Mapping, Sequence
from typing import Any, cast

from flask import current_app
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

from app.application.predictions import ModelNotAllowed, Receipt, Rejection
from app.domain.dropped import REASONS as DROP_REASONS
from app.domain.dropped import DroppedReport

EXTENSION = "predlog.meters"
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
NO_ROUTE, OTHER_METHOD = "none", "other"

REFUSALS = (
    "rate_limit",
    "authentication",
    "permits",
    "batches",
    "exports",
    "memory",
    "database_busy",
    "database_away",
    "not_ready",
)
# A rejected record is counted under the first of these fields that has an error, or else under one of the others.
FIELDS = (
    "model_name", "model_version", "duration_ms", "was_successful", "timestamp", "error", "metadata", "request_id",
)  # fmt: skip
NOT_ALLOWED, NO_OBJECT, UNKNOWN_FIELD = "not_allowed", "no_object", "unknown_field"


# `_created` series are unsupported in multiprocess mode.
disable_created_metrics()


class Meters:
    """All metrics. If PROMETHEUS_MULTIPROC_DIR is set, the figures are in files that all workers read."""

    def __init__(self, pool_size: int) -> None:
        self.pool_size = pool_size
        self.registry = CollectorRegistry()

        def counter(name: str, meaning: str, *labels: str) -> Counter:
            return Counter(name, meaning, labels, "predlog", registry=self.registry)

        self._requests = Histogram(
            "http_request_duration_seconds", "Seconds from a request's headers to its answer.",
            ("route", "method", "status"), "predlog", buckets=SECONDS, registry=self.registry,
        )  # fmt: skip
        # The most used children are kept, because prometheus_client takes long to find them.
        self._answered: dict[tuple[str | None, str, int], Histogram] = {}
        self._refused = counter("requests_refused_total", "Requests answered 429 or 503, by the reason.", "reason")
        self._stored = counter("records_stored_total", "Records that were committed.")
        self._duplicates = counter("records_duplicate_total", "Records that had been stored before.")
        self._rejected = counter("records_rejected_total", "Records that could not be used, by their fault.", "reason")
        self._summarized = counter("predictions_summarized_total", "Predictions that committed summaries count.")
        self._dropped = counter("records_dropped_total", "Predictions that clients reported as dropped.", "reason")
        for family, reasons in (
            (self._refused, REFUSALS),
            (self._rejected, (*FIELDS, UNKNOWN_FIELD, NO_OBJECT, NOT_ALLOWED)),
            (self._dropped, DROP_REASONS),
        ):
            for reason in reasons:  # each starts at 0, so that Prometheus sees the first increase
                family.labels(reason)
        self._in_use = Gauge(
            "pool_in_use", "Database connections in use.", ("database",), "predlog",
            registry=self.registry, multiprocess_mode="liveall",
        )  # fmt: skip
        self._waits = counter("pool_waits_total", "Times that no database connection was free.", "database")
        self._timeouts = counter("pool_timeouts_total", "Times that none became free in POOL_TIMEOUT_S.", "database")

    def request(self, route: str | None, method: str, status: int, seconds: float) -> None:
        """Count an answered request; `route` is a template, None if there is no such route."""
        series = (route, method if method in METHODS else OTHER_METHOD, status)
        answered = self._answered.get(series)
        if answered is None:
            answered = self._answered[series] = self._requests.labels(route or NO_ROUTE, *series[1:])
        answered.observe(seconds)

    def refused(self, reason: str) -> None:
        """Count a request that was answered 429 or 503, for one of REFUSALS."""
        self._refused.labels(reason).inc()

    def stored(self, *, is_new: bool) -> None:
        """Count a single prediction that was committed, now or before."""
        (self._stored if is_new else self._duplicates).inc()

    def rejected(self, problems: Mapping[str, Any] | None) -> None:
        """Count a single record that was rejected; `problems` are by field, None if it is no JSON object."""
        self._rejected.labels(reason(problems or {})).inc()

    def not_allowed(self) -> None:
        """Count a single record whose key may not log it."""
        self._rejected.labels(NOT_ALLOWED).inc()

    def batch(self, receipt: Receipt, dropped: Sequence[DroppedReport]) -> None:
        """Count a committed batch, and its sender's reports of dropped predictions."""
        self._stored.inc(receipt.stored)
        self._duplicates.inc(receipt.duplicates)
        self._summarized.inc(receipt.summarized)
        for why, number in Counts(_reason_of(rejection) for _, rejection in receipt.rejected).items():
            self._rejected.labels(why).inc(number)
        self.dropped(dropped)

    def dropped(self, reports: Sequence[DroppedReport]) -> None:
        """Count committed reports of dropped predictions."""
        for report in reports:
            self._dropped.labels(report.reason).inc(report.count)

    def pool(self, database: str) -> PoolMeter:
        """Return the meter of one pool of connections."""
        return PoolMeter(self._in_use.labels(database), self._waits.labels(database), self._timeouts.labels(database))


class PoolMeter:
    """The figures of one pool of connections."""

    def __init__(self, in_use: Gauge, waits: Counter, timeouts: Counter) -> None:
        self.lent = in_use.inc
        self.given_back = in_use.dec
        self.waited = waits.inc
        self.timed_out = timeouts.inc


def _reason_of(rejection: Rejection) -> str:
    return NOT_ALLOWED if isinstance(rejection, ModelNotAllowed) else reason(rejection.errors)


def reason(problems: Mapping[str, Any]) -> str:
    """Return the reason under which a rejected record is counted."""
    if not problems or "_schema" in problems:
        return NO_OBJECT
    return next((field for field in FIELDS if field in problems), UNKNOWN_FIELD)


def meters() -> Meters:
    """The meters of the application that handles this request."""
    return cast(Meters, current_app.extensions[EXTENSION])
