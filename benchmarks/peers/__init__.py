"""Predlog beside MLflow, Arize Phoenix and ClickHouse: `python -m benchmarks.peers`."""
