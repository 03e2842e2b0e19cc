"""Do not take a note that has just come for one that was seen

Revision ID: 0010
Revises: 0009
Create Date: 2026-11-23

A repair looked for the oldest note, and in a second statement for all notes of that day. One that came between the two
and was older still was among the latter: it was removed, and the time before the former was not computed anew. Now one
statement, which has one snapshot, says both. Retention looked for notes behind its new edge before it had locked the
writers out; now it looks once more when it has.
"""

from __future__ import annotations

from alembic import op

from app.infrastructure.engines import StorageEngine, chosen

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

# Repair the oldest day that has notes; hours_left says how many changed hours remain.
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
    WITH note AS (
        SELECT * FROM prediction_stats_change WHERE changed_to <= state.materialized_to
    )
    SELECT array_agg(id), min(changed_from), max(changed_to) INTO seen, since, until
    FROM   note
    WHERE  changed_from < (SELECT time_bucket('1 day', min(changed_from)) + INTERVAL '24 hours' FROM note);
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

# Raw rows go first: aggregates are made of what is finer, and must outlive it. The edge moves under the lock that
# keeps writers out, then behind it nothing is read, written or repaired any more, and only then are chunks dropped.
# What is noted behind it is repaired first: the next run will find it done.
RETAIN = """
CREATE OR REPLACE PROCEDURE prediction_stats_retain(keep jsonb) LANGUAGE plpgsql AS $$
DECLARE
    state     prediction_stats_state;
    level     text;
    edge      timestamptz;
    relation  text;
BEGIN
    FOREACH level IN ARRAY ARRAY['raw', 'minute', 'hour', 'day'] LOOP
        CONTINUE WHEN keep ->> level IS NULL;
        edge := time_bucket('1 day', now() - (keep ->> level)::interval);
        SELECT * INTO state FROM prediction_stats_state;
        CONTINUE WHEN edge <= coalesce((to_jsonb(state) ->> (level || '_from'))::timestamptz, '-infinity')
                   OR edge >  state.materialized_to
                   OR EXISTS (SELECT FROM prediction_stats_change WHERE changed_from < edge AND level = 'raw');
        IF level = 'raw' THEN
            PERFORM set_config('lock_timeout', '250ms', true);
            LOCK TABLE ONLY prediction_log IN SHARE MODE;
            IF EXISTS (SELECT FROM prediction_stats_change WHERE changed_from < edge) THEN
                COMMIT;
                CONTINUE;
            END IF;
        END IF;
        EXECUTE format('UPDATE prediction_stats_state SET %I = $1, generation = generation + 1', level || '_from')
        USING edge;
        COMMIT;
        FOREACH relation IN ARRAY CASE level WHEN 'raw' THEN ARRAY['prediction_log']
                                  ELSE ARRAY['prediction_stats_' || level, 'prediction_latency_' || level] END LOOP
            PERFORM drop_chunks(relation::regclass, older_than => edge);
        END LOOP;
        COMMIT;
    END LOOP;
END
$$
"""


def upgrade() -> None:
    if chosen(op.get_bind()) is StorageEngine.TIMESCALE:
        op.execute(REPAIR)
        op.execute(RETAIN)


def downgrade() -> None:
    """The same is done as before, without what was wrong: it may stay."""
