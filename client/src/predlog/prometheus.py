"""The client's figures for prometheus_client: `REGISTRY.register(Collector(log))`."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector as BaseCollector

from predlog.client import Client

REASONS = ("queue_full", "spool_full", "rejected", "expired", "exit", "closed")


COUNTERS = (
    ("sent", "Records that the service has stored."),
    ("duplicates", "Records that the service had stored before."),
    ("summarized", "Records that the service has counted in summaries."),
    ("withheld", "Records that before_send took out."),
    ("torn", "Half-written lines found in spool files."),
)
GAUGES = (
    ("queued", "Records in memory that are not acknowledged."),
    ("spooled", "Records in spool files that are not acknowledged."),
)


class Collector(BaseCollector):
    """Reads `Client.stats()` whenever it is scraped.

    One collector takes all clients of a process, for a registry refuses two with the same figures: `name` is the label
    `client` of each.
    """

    def __init__(self, log: Client, name: str = "default") -> None:
        self._logs = {name: log}

    def add(self, log: Client, name: str) -> None:
        """Show the figures of another client, too. Raises ValueError if there is one of that name."""
        if name in self._logs:
            raise ValueError(f"there is a client {name!r} already")
        self._logs = {**self._logs, name: log}  # not changed in place: a scrape may be going through it

    def collect(self) -> Iterator[Metric]:
        """The figures of this process as they are now."""
        figures = {name: log.stats() for name, log in self._logs.items()}
        for field, text in COUNTERS:
            counter = CounterMetricFamily(f"predlog_client_{field}", text, labels=["client"])
            for name, stats in figures.items():
                counter.add_metric([name], getattr(stats, field))
            yield counter
        for field, text in GAUGES:
            gauge = GaugeMetricFamily(f"predlog_client_{field}", text, labels=["client"])
            for name, stats in figures.items():
                gauge.add_metric([name], getattr(stats, field))
            yield gauge
        dropped = CounterMetricFamily(
            "predlog_client_dropped", "Records that were dropped, by reason.", labels=["client", "reason"]
        )
        for name, stats in figures.items():
            for reason in REASONS:  # each is there from the start, so that an increase can be told
                dropped.add_metric([name, reason], stats.dropped.get(reason, 0))
        yield dropped
