"""The client's figures for prometheus_client: `REGISTRY.register(Collector(log))`."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector as BaseCollector

from predlog.client import Client

REASONS = ("queue_full", "spool_full", "rejected", "expired", "exit", "closed")


class Collector(BaseCollector):
    """Reads `Client.stats()` whenever it is scraped; several clients are told apart by `name`."""

    def __init__(self, log: Client, name: str = "default") -> None:
        self._log = log
        self._name = name

    def collect(self) -> Iterator[Metric]:
        """The figures of this process as they are now."""
        stats = self._log.stats()
        for name, text, value in (
            ("sent", "Records that the service has stored.", stats.sent),
            ("duplicates", "Records that the service had stored before.", stats.duplicates),
            ("summarized", "Records that the service has counted in summaries.", stats.summarized),
            ("withheld", "Records that before_send took out.", stats.withheld),
            ("torn", "Half-written lines found in spool files.", stats.torn),
        ):
            counter = CounterMetricFamily(f"predlog_client_{name}", text, labels=["client"])
            counter.add_metric([self._name], value)
            yield counter
        for name, text, value in (
            ("queued", "Records in memory that are not acknowledged.", stats.queued),
            ("spooled", "Records in spool files that are not acknowledged.", stats.spooled),
        ):
            gauge = GaugeMetricFamily(f"predlog_client_{name}", text, labels=["client"])
            gauge.add_metric([self._name], value)
            yield gauge
        dropped = CounterMetricFamily(
            "predlog_client_dropped", "Records that were dropped, by reason.", labels=["client", "reason"]
        )
        for reason in REASONS:  # each is there from the start, so that an increase can be told
            dropped.add_metric([self._name, reason], stats.dropped.get(reason, 0))
        yield dropped
