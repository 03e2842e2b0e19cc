"""The watermark goes on after a pause and leaves nothing behind, and neither does a refresh of invalid hours."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from functools import partial

import pytest
from flask_migrate import upgrade

from app.domain.instants import MINUTE
from app.infrastructure.maintenance.timescale import Timescale
from app.infrastructure.postgres.database import Database
from conftest import Server, make_app
from support.scratch import empty_database

INSERT = """
INSERT INTO prediction_log (timestamp, model_name, duration_ms, was_successful)
SELECT at, 'm', 1, true
FROM   generate_series('2025-06-02 10:00Z'::timestamptz, '2025-06-02 12:15Z', INTERVAL '15 minutes') AS at
"""
# As if the clock stood there: the threshold does not pass it.
HALF_PAST_TWELVE = """
UPDATE prediction_stats_state SET invalidation_threshold = '2025-06-02 12:30Z', watermark = '2000-01-01Z'
"""
# TimescaleDB's own have lower numbers.
NO_JOBS = "SELECT delete_job(job_id) FROM timescaledb_information.jobs WHERE job_id >= 1000"

LATE = """
INSERT INTO prediction_log (timestamp, model_name, duration_ms, was_successful)
VALUES ('2025-06-02 10:40Z', 'm', 1, true)
"""
INVALIDATIONS = "SELECT invalid_from, invalid_to FROM prediction_invalidation"
REFRESH_INVALIDATED = "CALL prediction_stats_refresh_invalidated(NULL)"
ADVANCE_WATERMARK = "CALL prediction_stats_advance_watermark('1000 days', NULL, NULL)"
VERIFY = "SELECT prediction_stats_verify(%(level)s, %(width)s::interval, '2025-06-02Z', '2025-06-03Z')"

LAST_BUCKET = """
SELECT format('%%I.%%I', materialization_hypertable_schema, materialization_hypertable_name),
       (SELECT max(bucket) FROM {view}), (SELECT max(bucket) + %(width)s::interval FROM {view})
FROM   timescaledb_information.continuous_aggregates
WHERE  view_name = '{view}'
"""

# Called instead of TimescaleDB's own, whose arguments may be of any type.
BLIND = """
CREATE PROCEDURE refresh_continuous_aggregate(regclass, timestamptz, timestamptz, force boolean)
LANGUAGE sql AS 'SELECT 1'
"""
# Only says what it would have computed anew.
SAID = """
CREATE TABLE said (since timestamptz, until timestamptz);
CREATE OR REPLACE PROCEDURE prediction_stats_refresh(since timestamptz, until timestamptz, watermark timestamptz)
LANGUAGE sql AS 'INSERT INTO said VALUES (since, until)'
"""
INVALIDATE = """
INSERT INTO prediction_invalidation (invalid_from, invalid_to) VALUES (%(at)s, %(at)s + INTERVAL '1 minute')
"""
NOT_REFRESHED = """
SELECT count(*)::integer
FROM   generate_series(%(first)s, %(last)s, INTERVAL '1 minute') AS at
WHERE  NOT EXISTS (SELECT FROM said WHERE since <= at AND until > at)
"""
RETAIN = """
CALL prediction_stats_retain(jsonb_build_object('raw', (now() - %(edge)s::timestamptz - INTERVAL '1 minute')::text))
"""
RUN_THE_JOB = "CALL prediction_stats_job(0, NULL)"
WAITS_FOR_WRITERS = "SELECT FROM pg_locks WHERE NOT granted AND relation = 'prediction_log'::regclass"
SEEING = "DROP PROCEDURE refresh_continuous_aggregate(regclass, timestamptz, timestamptz, boolean)"


@pytest.fixture
def own(server: Server) -> Iterator[Database]:
    """A migrated TimescaleDB that does nothing by itself."""
    if server.engine != "timescale":
        pytest.skip("there is no watermark on this engine")
    with empty_database(server) as url:
        with make_app(url, pool_size=1).app_context():
            upgrade()
        database = Database(url, pool_size=3 if server.concurrent else 1)
        database.rows(NO_JOBS)
        yield database
        database.engine.dispose()


def refresh(database: Database, piece: timedelta = timedelta(days=1)) -> None:
    for _ in Timescale(database).refresh(piece):
        pass


@pytest.mark.parametrize("piece", [timedelta(hours=1), timedelta(days=1), timedelta(days=30)], ids=str)
def test_the_day_in_which_a_database_was_turned_off_for_long_is_finished_afterwards(
    own: Database, piece: timedelta
) -> None:
    with own.connection() as connection:
        connection.exec_driver_sql(HALF_PAST_TWELVE)
        connection.exec_driver_sql(INSERT)
        connection.exec_driver_sql("CALL prediction_stats_advance_watermark('1 day', NULL, NULL)")
    assert own.rows("SELECT watermark = '2025-06-02 12:30Z' FROM prediction_stats_state") == [(True,)]
    refresh(own, piece)
    for level in ("minute", "hour", "day"):
        assert own.rows(f"SELECT sum(total_requests)::integer FROM prediction_stats_{level}") == [(10,)], level
        assert own.rows(f"SELECT sum(calls)::integer FROM prediction_latency_{level}") == [(10,)], level


def test_an_invalidation_that_comes_while_a_refresh_begins_is_not_taken_for_done(own: Database, server: Server) -> None:
    if not server.concurrent:
        pytest.skip("all clients of this TimescaleDB share one session")
    own.count(SAID, {})
    own.count("UPDATE prediction_stats_state SET watermark = '2025-07-01Z'", {})
    last = datetime(2025, 6, 10, tzinfo=timezone.utc)
    minutes = [last - minute * MINUTE for minute in range(3 * 24 * 60)]  # each of them older than all before it

    def invalidate() -> None:
        with own.connection() as connection:
            for at in minutes:
                connection.exec_driver_sql(INVALIDATE, {"at": at})
                connection.commit()

    with ThreadPoolExecutor(1) as pool:
        invalidating = pool.submit(invalidate)
        while not invalidating.done():
            own.count(REFRESH_INVALIDATED, {})
        invalidating.result()
    while own.rows(INVALIDATIONS):
        own.count(REFRESH_INVALIDATED, {})
    assert own.rows(NOT_REFRESHED, {"first": minutes[-1], "last": last}) == [(0,)]


def test_a_day_that_is_invalidated_again_and_again_keeps_no_other_day_from_its_refresh(own: Database) -> None:
    own.count(SAID, {})
    own.count("UPDATE prediction_stats_state SET watermark = '2025-07-01Z'", {})
    busy, other = datetime(2025, 6, 9, tzinfo=timezone.utc), datetime(2025, 6, 10, tzinfo=timezone.utc)
    own.count(INVALIDATE, {"at": busy})
    own.count(INVALIDATE, {"at": other})
    for _ in range(2):
        own.count(REFRESH_INVALIDATED, {})
        own.count(INVALIDATE, {"at": busy})
    assert own.rows(NOT_REFRESHED, {"first": other, "last": other}) == [(0,)]


def test_retention_leaves_what_was_invalidated_while_it_waited_for_writers(own: Database, server: Server) -> None:
    if not server.concurrent:
        pytest.skip("all clients of this TimescaleDB share one session")
    own.count(INSERT, {})
    refresh(own)
    retain = partial(own.count, RETAIN, {"edge": "2025-06-03Z"})
    with ThreadPoolExecutor(1) as pool, own.connection() as writer:
        with writer.execution_options(isolation_level="READ COMMITTED").begin():
            writer.exec_driver_sql(LATE)
            retaining = pool.submit(retain)
            while not retaining.done() and not own.rows(WAITS_FOR_WRITERS):
                time.sleep(0.005)
        retaining.result()
    refresh(own)
    assert own.rows("SELECT sum(total_requests)::integer FROM prediction_stats_minute") == [(11,)]
    retain()
    assert own.rows(
        "SELECT raw_from = '2025-06-03Z', (SELECT count(*) FROM prediction_log) FROM prediction_stats_state"
    ) == [(True, 0)]


def test_chunks_that_a_session_reads_are_dropped_by_a_later_run(own: Database, server: Server) -> None:
    if not server.concurrent:
        pytest.skip("all clients of this TimescaleDB share one session")
    own.count(INSERT, {})
    refresh(own)
    with own.connection() as reader, reader.execution_options(isolation_level="READ COMMITTED").begin():
        reader.exec_driver_sql("SELECT FROM prediction_log")
        own.count(RETAIN, {"edge": "2025-06-03Z"})
        assert own.rows("SELECT count(*) FROM show_chunks('prediction_log')") == [(1,)]
    # The job of the database, or autovacuum, may hold the chunk just now: retention leaves it again then, as it should.
    until = time.monotonic() + 60
    while own.rows("SELECT FROM show_chunks('prediction_log')"):
        assert time.monotonic() < until, "no later run has dropped the chunk"
        own.count(RETAIN, {"edge": "2025-06-03Z"})


def test_minutes_are_kept_while_older_invalidations_wait_for_a_refresh(own: Database) -> None:
    own.count(INSERT, {})
    refresh(own)
    own.count("DELETE FROM prediction_log WHERE timestamp = '2025-06-02 10:15Z'", {})
    keep = {"raw": "240 hours", "minute": "480 hours", "hour": "960 hours"}
    for edges in ((True, True), (False, False)):
        own.count("CALL prediction_stats_retain(%(keep)s::jsonb)", {"keep": json.dumps(keep)})
        own.count(REFRESH_INVALIDATED, {})
        assert own.rows("SELECT raw_from IS NULL, minute_from IS NULL FROM prediction_stats_state") == [edges]
    for family, column in (("stats", "total_requests"), ("latency", "calls")):
        assert own.rows(f"SELECT sum({column})::integer FROM prediction_{family}_day") == [(9,)]


@pytest.mark.parametrize(("level", "width"), [("minute", "1 minute"), ("hour", "1 hour"), ("day", "24 hours")])
@pytest.mark.parametrize("family", ["prediction_stats", "prediction_latency"])
def test_a_bucket_that_lacks_predictions_is_invalidated_and_refreshed(
    own: Database, family: str, level: str, width: str
) -> None:
    own.count(INSERT, {})
    refresh(own)
    ((relation, since, until),) = own.rows(LAST_BUCKET.format(view=f"{family}_{level}"), {"width": width})
    own.count(f"DELETE FROM {relation} WHERE bucket = %(since)s", {"since": since})
    own.rows(VERIFY, {"level": level, "width": width})
    assert own.rows(INVALIDATIONS) == [(since, until)]
    refresh(own)
    assert own.rows(INVALIDATIONS) == []
    assert own.rows(f"SELECT max(bucket) FROM {family}_{level}") == [(since,)]


@pytest.mark.parametrize("verb", ["compress_chunk", "decompress_chunk"])
def test_what_a_refresh_has_not_found_is_invalid_until_one_finds_it(own: Database, verb: str) -> None:
    own.count(INSERT, {})
    own.count("CALL prediction_stats_advance_threshold()", {})
    for step, found in ((ADVANCE_WATERMARK, 10), (REFRESH_INVALIDATED, 11)):
        own.rows(f"SELECT {verb}(chunk, true) FROM show_chunks('prediction_log') AS chunk")
        own.count(BLIND, {})
        own.count(step, {})
        assert own.rows("SELECT min(invalid_from) <= '2025-06-02 10:40Z' FROM prediction_invalidation") == [(True,)]
        own.count(SEEING, {})
        refresh(own)
        assert own.rows(INVALIDATIONS) == []
        for level in ("minute", "hour", "day"):
            assert own.rows(f"SELECT sum(total_requests)::integer FROM prediction_stats_{level}") == [(found,)], level
        own.count(LATE, {})


def test_no_session_refreshes_while_another_one_does(own: Database, server: Server) -> None:
    if not server.concurrent:
        pytest.skip("all clients of this TimescaleDB share one session")
    watermark_moved = "SELECT watermark > '2000-01-01Z' FROM prediction_stats_state"
    with own.maintenance() as other:
        while not other.exec_driver_sql("SELECT prediction_stats_hold()").scalar():  # the job may have just begun
            time.sleep(0.01)
        own.count(HALF_PAST_TWELVE, {})
        own.count(RUN_THE_JOB, {})
        assert own.rows(watermark_moved) == [(False,)]
        other.exec_driver_sql("SELECT prediction_stats_release()")
    own.count(RUN_THE_JOB, {})
    assert own.rows(watermark_moved) == [(True,)]


def test_a_session_that_is_gone_keeps_no_other_from_refreshing(own: Database) -> None:
    own.count("UPDATE prediction_stats_holder SET pid = 2147483647, since = now()", {})
    assert own.rows("SELECT prediction_stats_hold()") == [(True,)]
