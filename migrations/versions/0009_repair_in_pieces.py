"""Repair in bounded pieces; chunks that reach the columnstore sooner

Revision ID: 0009
Revises: 0008
Create Date: 2026-11-23
"""

from __future__ import annotations

from alembic import op
from psycopg2 import errors
from sqlalchemy.exc import DBAPIError

from app.infrastructure.maintenance.engines import StorageEngine, chosen

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

# By force, as ever. What a crash could take of these commits it takes of all that follow, and the last of them, which
# says what was done, is made in its caller and waits for the disk: until then the work counts as not begun.
REFRESH = """
CREATE OR REPLACE PROCEDURE prediction_stats_refresh(since timestamptz, until timestamptz, watermark timestamptz)
LANGUAGE plpgsql AS $$
DECLARE
    durable  text := current_setting('synchronous_commit');
    level    text;
    width    interval;
    low      timestamptz;
    high     timestamptz;
BEGIN
    PERFORM set_config('synchronous_commit', 'off', false);
    FOR level, width IN VALUES ('minute', INTERVAL '1 minute'), ('hour', '1 hour'), ('day', '24 hours') LOOP
        low  := time_bucket(width, since);
        high := least(time_bucket(width, until + width - INTERVAL '1 microsecond'), time_bucket(width, watermark));
        CONTINUE WHEN low >= high;
        CALL refresh_continuous_aggregate(format('prediction_stats_%s', level)::regclass, low, high, force => true);
        CALL refresh_continuous_aggregate(format('prediction_latency_%s', level)::regclass, low, high, force => true);
    END LOOP;
    PERFORM set_config('synchronous_commit', durable, false);
END
$$
"""

# For half a minute at most, so that whoever calls it gets an answer while there is always something new to repair, and
# a refresh by hand gets its turn. The watermark goes on between two days of a long repair.
JOB = """
CREATE OR REPLACE PROCEDURE prediction_stats_job(job_id integer, config jsonb) LANGUAGE plpgsql AS $$
DECLARE
    until       timestamptz := clock_timestamp() + INTERVAL '30 seconds';
    up_to       timestamptz;
    done        boolean;
    hours_left  bigint;
BEGIN
    IF NOT pg_try_advisory_lock(hashtext('prediction_stats_refresh')) THEN
        RETURN;
    END IF;
    LOOP
        CALL prediction_stats_settle();
        COMMIT;
        LOOP
            CALL prediction_stats_advance(INTERVAL '24 hours', up_to, done);
            EXIT WHEN done OR clock_timestamp() > until;
        END LOOP;
        CALL prediction_stats_repair(hours_left);
        EXIT WHEN hours_left = 0 OR clock_timestamp() > until;
    END LOOP;
    CALL prediction_stats_retain(config);
    PERFORM pg_advisory_unlock(hashtext('prediction_stats_refresh'));
END
$$
"""

# The hours and days of a month or two would lie in rows before their chunk is old enough for the columnstore, and be
# read row by row: 60 days of percentiles took longer than the rest of the answer.
CHUNKS = {"hour": "7 days", "day": "28 days"}
SOONER = """
SELECT set_chunk_time_interval('prediction_stats_{level}', INTERVAL '{chunk}');
SELECT set_chunk_time_interval('prediction_latency_{level}', INTERVAL '{chunk}')
"""
COLUMNSTORE_POLICY = """
CALL remove_columnstore_policy('{name}', if_exists => true);
CALL add_columnstore_policy('{name}', after => INTERVAL '1 day')
"""
COARSE = ("prediction_stats_hour", "prediction_latency_hour", "prediction_latency_day")

# By default each unique index has a Bloom filter in every batch, a third of what a row takes there. Ids grow with
# time: their least and greatest say as much.
SPARSE_INDEX = """
ALTER TABLE prediction_log SET (timescaledb.enable_columnstore, timescaledb.segmentby = 'model_name',
    timescaledb.orderby = '"timestamp" DESC', timescaledb.sparse_index = 'minmax(id),bloom(request_id)')
"""

UNKNOWN = (errors.FeatureNotSupported, errors.InvalidParameterValue)


def upgrade() -> None:
    if chosen(op.get_bind()) is not StorageEngine.TIMESCALE:
        return
    for statement in (REFRESH, JOB):
        op.execute(statement)
    for level, chunk in CHUNKS.items():
        op.execute(SOONER.format(level=level, chunk=chunk))
    for name in COARSE:
        _if_known(COLUMNSTORE_POLICY.format(name=name))
    _if_known(SPARSE_INDEX)


def _if_known(statement: str) -> None:
    """What TimescaleDB before 2.24 does not know, or not without a refresh policy, it does without."""
    try:
        with op.get_bind().begin_nested():
            op.execute(statement)
    except DBAPIError as error:
        if not isinstance(error.orig, UNKNOWN):
            raise


def downgrade() -> None:
    """What is changed here does the same as before, only sooner: it may stay."""
