"""TimescaleDB's own image, run by testcontainers if a Docker engine answers."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Iterator
from contextlib import contextmanager

IMAGE = "timescale/timescaledb:2.28.3-pg17"  # the tags that end in -oss lack the Community features
COMMAND = "postgres -c fsync=off -c timescaledb.telemetry_level=off"
ANSWER_WITHIN = 3  # seconds


@functools.cache
def why_not() -> str | None:
    try:
        docker = importlib.import_module("docker")
        importlib.import_module("testcontainers.community.postgres")
    except ImportError as error:
        return f"{error.name} is not installed"
    try:
        client = docker.from_env(timeout=ANSWER_WITHIN)
        client.close()
    except Exception:  # docker and requests both raise their own
        return "no Docker engine answers"
    return None


@contextmanager
def start() -> Iterator[str]:
    from testcontainers.community.postgres import PostgresContainer

    with PostgresContainer(IMAGE, driver="psycopg2").with_command(COMMAND) as server:
        yield server.get_connection_url()
