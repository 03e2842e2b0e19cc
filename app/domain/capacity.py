"""How large servers must be for so many predictions a day, reckoned from figures that docs/benchmarks.md measures."""

from __future__ import annotations

import math
from dataclasses import dataclass

SECONDS_PER_DAY = 86_400
MINUTES_PER_DAY = 1_440

# Service and PostgreSQL together.
CPU_US_PER_REQUEST = 1_300.0
CPU_US_PER_PREDICTION = 20.0
BYTES_IN_ROWS = 285
BYTES_IN_COLUMNSTORE = 14
BYTES_OF_RANDOM_REQUEST_ID = 16
# So many bins of the sketch do log-normal durations of one minute come near to, if their logarithms deviate by 1.
BINS = 180
# In the columnstore a minute of 4 predictions takes 52 bytes, and one of 39 takes 117.
BYTES_PER_MODEL_AND_MINUTE, BYTES_PER_BIN = 45, 2
# On Citus nothing goes to the columnstore, and each row has the model in two more keys.
BYTES_ON_CITUS = 324
BYTES_PER_MODEL_AND_MINUTE_ON_CITUS, BYTES_PER_BIN_ON_CITUS = 650, 185
CPU_US_PER_PREDICTION_ON_CITUS = 2 * CPU_US_PER_PREDICTION
# What PostgreSQL needs free for a vacuum, an index that is made anew, and a day that is busier than others.
MAX_DISK_USE = 0.7
MAX_CPU_USE = 0.6


@dataclass(frozen=True)
class Load:
    """What is to be logged and kept.

    `days_in_rows` is how long new rows wait for the columnstore, `peak` the busiest second ÷ the mean one, and `batch`
    how many predictions come in one request.
    """

    predictions_per_day: float
    models: int
    raw_days: float
    minute_days: float
    days_in_rows: float
    peak: float
    batch: int
    has_request_ids: bool

    @property
    def mean_per_s(self) -> float:
        """Predictions in a mean second."""
        return self.predictions_per_day / SECONDS_PER_DAY

    @property
    def peak_per_s(self) -> float:
        """Predictions in the busiest second."""
        return self.mean_per_s * self.peak


@dataclass(frozen=True)
class Node:
    """A server that can be had: its cores, and its disk in bytes."""

    cores: int
    disk: float


@dataclass(frozen=True)
class Need:
    """What an engine needs for a load: cores at the peak, bytes on disk, and how many servers of a kind that makes."""

    cores: float
    disk: float
    servers: int


def on_timescale(load: Load, node: Node) -> Need:
    """Return what TimescaleDB needs; more than one server means that one of this kind is too small."""
    id_bytes = BYTES_OF_RANDOM_REQUEST_ID if load.has_request_ids else 0
    days_in_rows = min(load.days_in_rows, load.raw_days)
    bytes_per_day = BYTES_IN_COLUMNSTORE + id_bytes
    rows = load.predictions_per_day * (BYTES_IN_ROWS * days_in_rows + bytes_per_day * (load.raw_days - days_in_rows))
    aggregates = _aggregates(load, BYTES_PER_MODEL_AND_MINUTE, BYTES_PER_BIN)
    return _need(load, node, rows + aggregates, CPU_US_PER_PREDICTION)


def on_citus(load: Load, node: Node) -> Need:
    """Return what Citus needs: workers of this kind, with a coordinator beside them."""
    rows = load.predictions_per_day * BYTES_ON_CITUS * load.raw_days
    aggregates = _aggregates(load, BYTES_PER_MODEL_AND_MINUTE_ON_CITUS, BYTES_PER_BIN_ON_CITUS)
    return _need(load, node, rows + aggregates, CPU_US_PER_PREDICTION_ON_CITUS)


def _need(load: Load, node: Node, disk: float, cpu_us: float) -> Need:
    cores = load.peak_per_s * (cpu_us + CPU_US_PER_REQUEST / load.batch) / 1e6 / MAX_CPU_USE
    disk /= MAX_DISK_USE
    return Need(cores, disk, max(1, math.ceil(cores / node.cores), math.ceil(disk / node.disk)))


def _aggregates(load: Load, bytes_per_minute: int, bytes_per_bin: int) -> float:
    """Bytes of the aggregates by minute, most of all aggregates; no model has more minutes than predictions.

    Predictions of a minute share bins: n of them have BINS (1 - exp(-n / BINS)), as if BINS were equally likely.
    """
    minutes = min(load.models * MINUTES_PER_DAY, load.predictions_per_day)
    bins = BINS * -math.expm1(-load.predictions_per_day / minutes / BINS)
    return minutes * (bytes_per_minute + bytes_per_bin * bins) * load.minute_days
