"""What an export reads from the database, and what stops it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine

from app.application.export import Layout
from app.application.prediction_list import Filters
from app.infrastructure import export_store
from app.infrastructure.export_store import PostgresPredictionExport
from app.infrastructure.postgres.database import Database
from conftest import Server

END_IDLE = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE query LIKE 'FETCH 2 %%' AND state LIKE 'idle in %%'
"""
WAITS = """
SELECT count(*) > 0 FROM pg_stat_activity
WHERE  datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%%FROM prediction_log WHERE%%'
"""


@pytest.mark.parametrize("blocks_read", [1, 2])
def test_an_export_can_be_left_after_the_server_has_ended_its_idle_transaction(
    server: Server,
    database: Engine,
    log: Callable[..., dict[str, Any]],
    model: str,
    monkeypatch: pytest.MonkeyPatch,
    blocks_read: int,
) -> None:
    if not server.concurrent:
        pytest.skip("one session cannot end another")
    monkeypatch.setattr(export_store, "FETCH", "FETCH 2 FROM export")
    for _ in range(6):
        log()
    source = Database(server.url, export_store.SETTINGS, pool_size=1, max_overflow=0)
    blocks = PostgresPredictionExport(source).blocks(Filters(model_names=(model,)), None, Layout.CSV)
    for _ in range(blocks_read):
        next(blocks)
    until = time.monotonic() + 30
    with database.connect() as connection:
        while connection.exec_driver_sql(END_IDLE).scalar() != 1:  # it is idle a moment after it has answered
            assert time.monotonic() < until
            time.sleep(0.05)
    blocks.close()
    assert source.read("SELECT 1") == [(1,)]
    source.engine.dispose()


@pytest.mark.parametrize(
    "filters", [{"model_version": "rare"}, {"min_duration_ms": 99}, {"was_successful": True, "model_version": "rare"}]
)
def test_no_statement_of_an_export_looks_for_rare_predictions_through_the_whole_log(
    server: Server,
    log: Callable[..., dict[str, Any]],
    model: str,
    monkeypatch: pytest.MonkeyPatch,
    filters: dict[str, Any],
) -> None:
    monkeypatch.setattr(export_store, "FETCH", "FETCH 2 FROM export")
    for _ in range(4):
        log()
    found = log(model_version="rare", duration_ms=99)
    source = Database(server.url, export_store.SETTINGS, pool_size=1, max_overflow=0)
    export = PostgresPredictionExport(source)
    blocks = list(export.blocks(Filters(model_names=(model,), **filters), None, Layout.CSV))
    assert [len(block.lines) for block in blocks] == [0, 0, 1]
    assert blocks[-1].lines[0].startswith(f"{found['id']},")
    source.engine.dispose()


def test_an_export_that_waits_for_chunks_to_leave_the_columnstore_has_their_predictions(
    server: Server, database: Engine, log: Callable[..., dict[str, Any]], model: str
) -> None:
    if server.engine != "timescale" or not server.concurrent:
        pytest.skip("needs chunks, and two sessions")
    logged = log()
    move = "SELECT {}_chunk(c, true) FROM show_chunks('prediction_log', newer_than => now() - INTERVAL '1 day') AS c"
    source = Database(server.url, export_store.SETTINGS, pool_size=1, max_overflow=0)
    lines: list[str] = []

    def export() -> None:
        for block in PostgresPredictionExport(source).blocks(Filters(model_names=(model,)), None, Layout.CSV):
            lines.extend(block.lines)

    reader = threading.Thread(target=export)
    with database.connect() as connection, database.connect() as observer:
        connection.exec_driver_sql(move.format("compress"))
        connection.exec_driver_sql("BEGIN")
        connection.exec_driver_sql(move.format("decompress"))
        reader.start()
        until = time.monotonic() + 30
        while not observer.exec_driver_sql(WAITS).scalar():
            assert time.monotonic() < until
            time.sleep(0.05)
        connection.exec_driver_sql("COMMIT")
    reader.join()
    source.engine.dispose()
    assert [line.split(",")[0] for line in lines] == [str(logged["id"])]
