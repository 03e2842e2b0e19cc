"""Do not pass over the day that the watermark stands in

Revision ID: 0008
Revises: 0007
Create Date: 2026-11-23

Days without any call are passed over. Where the watermark stood within a day and more than a day was left to do, as
after a database was off for a weekend, the rest of that day was passed over with them, and neither its own bucket nor
that of the hour was ever filled. Now a day is brought to its end first.
"""

from __future__ import annotations

from alembic import op

from app.infrastructure.maintenance.engines import StorageEngine, chosen

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

ADVANCE = """
CREATE OR REPLACE PROCEDURE prediction_stats_advance(piece interval, INOUT up_to timestamptz, INOUT done boolean)
LANGUAGE plpgsql AS $$
DECLARE
    state     prediction_stats_state;
    since     timestamptz;
    midnight  timestamptz;
BEGIN
    SELECT * INTO state FROM prediction_stats_state;
    since := greatest(state.materialized_to, state.raw_from);
    IF NOT EXISTS (SELECT FROM prediction_stats_minute) THEN  -- history begins with the first row
        since := greatest(since, least(state.settled_to, (SELECT time_bucket('1 day', min(timestamp))
                                                          FROM   prediction_log)));
    END IF;
    midnight := time_bucket('1 day', since);
    IF since > midnight THEN  -- a day that was begun is brought to its end
        midnight := midnight + INTERVAL '24 hours';
    ELSE
        midnight := 'infinity';
        IF since + piece < state.settled_to THEN  -- days without any call are passed over
            since := greatest(since, least(state.settled_to, coalesce(
                (SELECT time_bucket('1 day', min(timestamp)) FROM prediction_log WHERE timestamp >= since),
                state.settled_to)));
        END IF;
    END IF;
    up_to := least(state.settled_to, midnight, time_bucket('1 minute', since + piece));
    done  := up_to = state.settled_to;
    COMMIT;
    IF state.materialized_to < up_to THEN
        CALL prediction_stats_refresh(since, up_to, up_to);
        UPDATE prediction_stats_state SET materialized_to = up_to WHERE materialized_to < up_to;
        COMMIT;
    END IF;
END
$$
"""

ADVANCE_BEFORE = """
CREATE OR REPLACE PROCEDURE prediction_stats_advance(piece interval, INOUT up_to timestamptz, INOUT done boolean)
LANGUAGE plpgsql AS $$
DECLARE
    state  prediction_stats_state;
    since  timestamptz;
BEGIN
    SELECT * INTO state FROM prediction_stats_state;
    since := greatest(state.materialized_to, state.raw_from);
    IF NOT EXISTS (SELECT FROM prediction_stats_minute) THEN  -- history begins with the first row
        since := greatest(since, least(state.settled_to, (SELECT time_bucket('1 day', min(timestamp))
                                                          FROM   prediction_log)));
    END IF;
    IF since + piece < state.settled_to THEN  -- days without any call are passed over
        since := greatest(since, least(state.settled_to, coalesce(
            (SELECT time_bucket('1 day', min(timestamp)) FROM prediction_log WHERE timestamp >= since),
            state.settled_to)));
    END IF;
    up_to := least(state.settled_to, time_bucket('1 minute', since + piece));
    done  := up_to = state.settled_to;
    COMMIT;
    IF state.materialized_to < up_to THEN
        CALL prediction_stats_refresh(since, up_to, up_to);
        UPDATE prediction_stats_state SET materialized_to = up_to WHERE materialized_to < up_to;
        COMMIT;
    END IF;
END
$$
"""


def upgrade() -> None:
    if chosen(op.get_bind()) is StorageEngine.TIMESCALE:
        op.execute(ADVANCE)


def downgrade() -> None:
    if chosen(op.get_bind()) is StorageEngine.TIMESCALE:
        op.execute(ADVANCE_BEFORE)
