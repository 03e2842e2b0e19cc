"""The watermark goes on after a pause and leaves nothing behind, and neither does a repair."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from flask_migrate import upgrade

from app.infrastructure.database import Database
from app.infrastructure.timescale import Timescale
from conftest import Server, make_app
from scratch import empty_database

INSERT = """
INSERT INTO prediction_log (timestamp, model_name, duration_ms, was_successful)
SELECT at, 'm', 1, true
FROM   generate_series('2025-06-02 10:00Z'::timestamptz, '2025-06-02 12:15Z', INTERVAL '15 minutes') AS at
"""
# As if the clock stood there: nothing after it is settled yet.
HALF_PAST_TWELVE = """
UPDATE prediction_stats_state SET settled_to = '2025-06-02 12:30Z', materialized_to = '2000-01-01Z'
"""
NO_JOB = "SELECT delete_job(job_id) FROM timescaledb_information.jobs WHERE proc_name = 'prediction_stats_job'"

LATE = """
INSERT INTO prediction_log (timestamp, model_name, duration_ms, was_successful)
VALUES ('2025-06-02 10:40Z', 'm', 1, true)
"""
ELSEWHERE = {"at": "2025-06-02 10:15Z", "to": "2025-06-02 10:16Z"}
NOTES = "SELECT count(*)::integer FROM prediction_stats_change"


@pytest.fixture
def own(server: Server) -> Iterator[Database]:
    """A migrated TimescaleDB that does nothing by itself."""
    if server.engine != "timescale":
        pytest.skip("there is no watermark on this engine")
    with empty_database(server) as url:
        with make_app(url, pool_size=1).app_context():
            upgrade()
        database = Database(url, pool_size=1)
        database.rows(NO_JOB)
        yield database
        database.engine.dispose()


@pytest.mark.parametrize("piece", [timedelta(hours=1), timedelta(days=1), timedelta(days=30)], ids=str)
def test_the_day_in_which_a_database_was_turned_off_for_long_is_finished_afterwards(
    own: Database, piece: timedelta
) -> None:
    with own.connection() as connection:
        connection.exec_driver_sql(HALF_PAST_TWELVE)
        connection.exec_driver_sql(INSERT)
        connection.exec_driver_sql("CALL prediction_stats_advance('1 day', NULL, NULL)")
    assert own.rows("SELECT materialized_to = '2025-06-02 12:30Z' FROM prediction_stats_state") == [(True,)]
    for _ in Timescale(own).refresh(piece):
        pass
    for level in ("minute", "hour", "day"):
        assert own.rows(f"SELECT sum(total_requests)::integer FROM prediction_stats_{level}") == [(10,)], level
        assert own.rows(f"SELECT sum(calls)::integer FROM prediction_latency_{level}") == [(10,)], level


@pytest.mark.parametrize("compressed", [True, False])
def test_hours_with_rows_in_the_columnstore_are_repaired_until_all_aggregates_agree_with_them(
    own: Database, compressed: bool
) -> None:
    own.count(INSERT, {})
    for _ in Timescale(own).refresh(timedelta(days=1)):
        pass
    own.count("CALL remove_columnstore_policy('prediction_log')", {})
    move = "compress_chunk" if compressed else "decompress_chunk"
    own.rows(f"SELECT {move}(chunk, true) FROM show_chunks('prediction_log') AS chunk")
    own.count(LATE, {})
    own.count("UPDATE prediction_stats_change SET changed_from = %(at)s, changed_to = %(to)s", ELSEWHERE)
    own.count("CALL prediction_stats_repair(NULL)", {})  # as if it had not found the late row
    assert own.rows(NOTES) == [(int(compressed),)]
    own.count("UPDATE prediction_stats_change SET changed_to = '2025-06-02 10:41Z'", {})
    own.count("CALL prediction_stats_repair(NULL)", {})
    assert own.rows(NOTES) == [(0,)]
