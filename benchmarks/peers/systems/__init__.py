"""The systems that are compared."""

from __future__ import annotations

from benchmarks.peers.systems.base import System
from benchmarks.peers.systems.clickhouse import ClickHouse
from benchmarks.peers.systems.mlflow import MLflow
from benchmarks.peers.systems.phoenix import Phoenix
from benchmarks.peers.systems.predlog import Predlog

SYSTEMS: tuple[type[System], ...] = (Predlog, MLflow, Phoenix, ClickHouse)
