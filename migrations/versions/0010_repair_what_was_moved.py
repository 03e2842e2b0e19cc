"""Count again what was repaired where rows may have been moved meanwhile

Revision ID: 0010
Revises: 0009
Create Date: 2026-11-23

A refresh that was planned before a chunk, or a batch of it, went to the columnstore or came back, and is run after
that, may not find all rows, and nothing would say that they are missing from the aggregates. So the hours of a day
that has rows in the columnstore are counted again after their repair, and keep their notes, so that they are read
raw, until rows, minutes, hours and the day agree.
"""

from __future__ import annotations

from alembic import op

from app.infrastructure.engines import StorageEngine, chosen

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

REPAIR = """
CREATE OR REPLACE PROCEDURE prediction_stats_repair(INOUT hours_left bigint) LANGUAGE plpgsql AS $$
DECLARE
    state     prediction_stats_state;
    midnight  timestamptz;
    since     timestamptz;
    until     timestamptz;
    seen      bigint[];
BEGIN
    SELECT * INTO state FROM prediction_stats_state;
    DELETE FROM prediction_stats_change WHERE changed_to <= state.raw_from;
    SELECT min(changed_from) INTO since FROM prediction_stats_change WHERE changed_to <= state.materialized_to;
    midnight := time_bucket('1 day', since);
    SELECT array_agg(id), max(changed_to) INTO seen, until
    FROM   prediction_stats_change
    WHERE  changed_to <= state.materialized_to AND changed_from < midnight + INTERVAL '24 hours';
    COMMIT;
    IF seen IS NOT NULL THEN
        CALL prediction_stats_refresh(since, until, state.materialized_to);
        IF {agreed} THEN
            DELETE FROM prediction_stats_change WHERE id = ANY (seen);
        END IF;
        UPDATE prediction_stats_state SET generation = generation + 1;
        COMMIT;
    END IF;
    SELECT count(DISTINCT time_bucket('1 hour', changed_from)) INTO hours_left
    FROM   prediction_stats_change
    WHERE  changed_to <= state.materialized_to;
END
$$
"""

# Of a level only the buckets that are whole at the watermark are there. A day that lies in rows alone is not counted:
# there calls are late all the time, and no row is moved. Nor is one of which retention has dropped a level.
AGREED = "prediction_stats_agree(midnight, since, until, state.materialized_to)"
AGREE = """
CREATE FUNCTION prediction_stats_agree(midnight timestamptz, since timestamptz, until timestamptz,
                                       watermark timestamptz) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    tomorrow  timestamptz := midnight + INTERVAL '24 hours';
    low       timestamptz := time_bucket('1 hour', since);
    high      timestamptz := least(time_bucket('1 hour', until + INTERVAL '1 hour' - INTERVAL '1 microsecond'),
                                   time_bucket('1 hour', watermark));
    day       bigint;
    counted   bigint[];
BEGIN
    IF NOT EXISTS (SELECT FROM timescaledb_information.chunks
                   WHERE  hypertable_name = 'prediction_log' AND is_compressed
                   AND    range_end > midnight AND range_start < tomorrow)
    OR EXISTS (SELECT FROM prediction_stats_state WHERE greatest(minute_from, hour_from, day_from) > midnight) THEN
        RETURN true;
    END IF;
    counted := ARRAY[
        (SELECT count(*) FROM prediction_log WHERE timestamp >= low AND timestamp < high),
        (SELECT coalesce(sum(total_requests), 0) FROM prediction_stats_minute WHERE bucket >= low AND bucket < high),
        (SELECT coalesce(sum(total_requests), 0) FROM prediction_stats_hour WHERE bucket >= low AND bucket < high),
        (SELECT coalesce(sum(calls), 0) FROM prediction_latency_minute WHERE bucket >= low AND bucket < high),
        (SELECT coalesce(sum(calls), 0) FROM prediction_latency_hour WHERE bucket >= low AND bucket < high)];
    IF tomorrow <= watermark THEN
        SELECT coalesce(sum(total_requests), 0) INTO day
        FROM   prediction_stats_hour WHERE bucket >= midnight AND bucket < tomorrow;
        IF day <> (SELECT coalesce(sum(total_requests), 0) FROM prediction_stats_day WHERE bucket = midnight)
        OR day <> (SELECT coalesce(sum(calls), 0) FROM prediction_latency_day WHERE bucket = midnight) THEN
            RETURN false;
        END IF;
    END IF;
    RETURN counted[1] = ALL (counted);
END
$$
"""


def upgrade() -> None:
    if chosen(op.get_bind()) is StorageEngine.TIMESCALE:
        op.execute(AGREE)
        op.execute(REPAIR.format(agreed=AGREED))


def downgrade() -> None:
    if chosen(op.get_bind()) is StorageEngine.TIMESCALE:
        op.execute(REPAIR.format(agreed="true"))
        op.execute("DROP FUNCTION prediction_stats_agree(timestamptz, timestamptz, timestamptz, timestamptz)")
