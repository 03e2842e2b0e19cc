"""A day is 24 hours, whatever the session's time zone

Revision ID: 0007
Revises: 0006
Create Date: 2026-11-23

In a zone with summer time `timestamptz + INTERVAL '1 day'` is 23 or 25 hours later on two days of the year. Triggers
and procedures compute whole days of UTC: a session in another zone, such as TimescaleDB's job where the server has one,
or a client behind a pooler, would have left out a day or part of it, and a repair of its last hour not have ended.
"""

from __future__ import annotations

from alembic import op

from app.infrastructure.maintenance.engines import StorageEngine, chosen

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

# A procedure that commits cannot have a time zone of its own, so the length of a day is written in hours.
REFRESH = """
CREATE OR REPLACE PROCEDURE prediction_stats_refresh(since timestamptz, until timestamptz, watermark timestamptz)
LANGUAGE plpgsql AS $$
DECLARE
    level  text;
    width  interval;
    low    timestamptz;
    high   timestamptz;
BEGIN
    FOR level, width IN VALUES ('minute', INTERVAL '1 minute'), ('hour', '1 hour'), ('day', '{day}') LOOP
        low  := time_bucket(width, since);
        high := least(time_bucket(width, until + width - INTERVAL '1 microsecond'), time_bucket(width, watermark));
        CONTINUE WHEN low >= high;
        CALL refresh_continuous_aggregate(format('prediction_stats_%s', level)::regclass, low, high, force => true);
        CALL refresh_continuous_aggregate(format('prediction_latency_%s', level)::regclass, low, high, force => true);
    END LOOP;
END
$$
"""

REPAIR = """
CREATE OR REPLACE PROCEDURE prediction_stats_repair(INOUT hours_left bigint) LANGUAGE plpgsql AS $$
DECLARE
    state  prediction_stats_state;
    since  timestamptz;
    until  timestamptz;
    seen   bigint[];
BEGIN
    SELECT * INTO state FROM prediction_stats_state;
    DELETE FROM prediction_stats_change WHERE changed_to <= state.raw_from;
    SELECT min(changed_from) INTO since FROM prediction_stats_change WHERE changed_to <= state.materialized_to;
    SELECT array_agg(id), max(changed_to) INTO seen, until
    FROM   prediction_stats_change
    WHERE  changed_to  <= state.materialized_to
      AND  changed_from < time_bucket('1 day', since) + INTERVAL '{day}';
    COMMIT;
    IF seen IS NOT NULL THEN
        CALL prediction_stats_refresh(since, until, state.materialized_to);
        DELETE FROM prediction_stats_change WHERE id = ANY (seen);
        UPDATE prediction_stats_state SET generation = generation + 1;
        COMMIT;
    END IF;
    SELECT count(DISTINCT time_bucket('1 hour', changed_from)) INTO hours_left
    FROM   prediction_stats_change
    WHERE  changed_to <= state.materialized_to;
END
$$
"""


def upgrade() -> None:
    if chosen(op.get_bind()) is StorageEngine.TIMESCALE:
        op.execute(REFRESH.format(day="24 hours"))
        op.execute(REPAIR.format(day="24 hours"))
    else:
        op.execute("ALTER FUNCTION prediction_log_removed() SET timezone = 'UTC'")


def downgrade() -> None:
    if chosen(op.get_bind()) is StorageEngine.TIMESCALE:
        op.execute(REFRESH.format(day="1 day"))
        op.execute(REPAIR.format(day="1 day"))
    else:
        op.execute("ALTER FUNCTION prediction_log_removed() RESET timezone")
