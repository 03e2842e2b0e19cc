"""Each way to get Citus on this machine gives a coordinator that spreads rows over its workers."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
from sqlalchemy import create_engine

from . import citus, container

WAYS: dict[str, Callable[[], AbstractContextManager[citus.Cluster]]] = {
    "local": citus.cluster,
    "containers": citus.containers,
}


def why_not(way: str) -> str | None:
    if not os.environ.get("TEST_CITUS"):
        return "TEST_CITUS is not set"
    if way == "containers":
        return container.why_not()
    return None if citus.programs() else "no local PostgreSQL has Citus"


@pytest.mark.parametrize("way", WAYS)
def test_rows_are_spread_over_the_workers(way: str) -> None:
    if reason := why_not(way):
        pytest.skip(reason)
    with WAYS[way]() as nodes, citus.database(nodes) as url:
        engine = create_engine(url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql("CREATE TABLE reading (name text)")
            connection.exec_driver_sql("SELECT create_distributed_table('reading', 'name')")
            connection.exec_driver_sql("INSERT INTO reading SELECT 'r' || n FROM generate_series(1, 100) AS n")
            assert connection.exec_driver_sql("SELECT count(*) FROM reading").scalar() == 100
            placed = connection.exec_driver_sql(
                "SELECT DISTINCT nodename, nodeport FROM citus_shards WHERE table_name = 'reading'::regclass"
            ).all()
        engine.dispose()
        assert {tuple(place) for place in placed} == {(node.name, node.port) for node in nodes.nodes[1:]}


def test_with_neither_a_server_nor_an_engine_the_reason_names_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_CITUS", "1")
    monkeypatch.delenv("TEST_CITUS_URL", raising=False)
    monkeypatch.setattr(citus, "programs", lambda: None)
    monkeypatch.setattr(container, "why_not", lambda: "no Docker engine answers")
    reason = citus.why_not.__wrapped__()
    assert reason and "no local PostgreSQL has Citus" in reason and "no Docker engine answers" in reason
