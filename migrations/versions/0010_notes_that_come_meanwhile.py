"""Do not take a note that has just come for one that was seen

Revision ID: 0010
Revises: 0009
Create Date: 2026-11-23

A repair looked for the oldest note, and in a second statement for all notes of that day. One that came between the two
and was older still was among the latter: it was removed, and the time before the former was not computed anew. Now one
statement, which has one snapshot, says both. Retention looked for notes behind its new edge before it had locked the
writers out, and where it found one it left the rows, but not the minutes and hours that a repair would make the day of;
now it looks once more when it has the lock, and no level is dropped before a finer one.
"""

from __future__ import annotations

from alembic import op

from app.infrastructure.maintenance.engines import StorageEngine, chosen

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

# Raw rows go first: aggregates are made of what is finer, and must outlive it, so no edge passes that of the finer
# level, and none moves back. That of raw rows moves under the lock that keeps writers out, when nothing is noted behind
# it; then nothing is read, written or repaired there. The look behind the lock must see what was committed while it
# waited, whatever isolation is the database's default. Chunks that somebody reads for long are left for the next run:
# whoever came after us would have to wait, too.
RETAIN = """
CREATE OR REPLACE PROCEDURE prediction_stats_retain(keep jsonb) LANGUAGE plpgsql AS $$
DECLARE
    state     jsonb;
    level     text;
    finer     timestamptz := 'infinity';
    edge      timestamptz;
    moves     boolean;
    relation  text;
BEGIN
    PERFORM set_config('default_transaction_isolation', 'read committed', false);
    COMMIT;
    FOREACH level IN ARRAY ARRAY['raw', 'minute', 'hour', 'day'] LOOP
        state := (SELECT to_jsonb(s) FROM prediction_stats_state s);
        edge  := least(time_bucket('1 day', now() - (keep ->> level)::interval), finer);
        moves := keep ? level AND finer IS NOT NULL AND edge <= (state ->> 'materialized_to')::timestamptz
             AND edge > coalesce((state ->> (level || '_from'))::timestamptz, '-infinity')
             AND NOT (level = 'raw' AND EXISTS (SELECT FROM prediction_stats_change WHERE changed_from < edge));
        IF moves AND level = 'raw' THEN
            BEGIN
                PERFORM set_config('lock_timeout', '250ms', true);
                LOCK TABLE ONLY prediction_log IN SHARE MODE;
                moves := NOT EXISTS (SELECT FROM prediction_stats_change WHERE changed_from < edge);
            EXCEPTION WHEN lock_not_available THEN
                moves := false;
            END;
        END IF;
        IF moves THEN
            EXECUTE format('UPDATE prediction_stats_state SET %1$I = $1, generation = generation + 1
                            WHERE  coalesce(%1$I, ''-infinity'') < $1', level || '_from')
            USING edge;
        END IF;
        COMMIT;
        finer := (SELECT to_jsonb(s) ->> (level || '_from') FROM prediction_stats_state s);
        CONTINUE WHEN finer IS NULL;
        PERFORM set_config('lock_timeout', '2s', true);
        FOREACH relation IN ARRAY CASE level WHEN 'raw' THEN ARRAY['prediction_log']
                                  ELSE ARRAY['prediction_stats_' || level, 'prediction_latency_' || level] END LOOP
            BEGIN
                PERFORM drop_chunks(relation::regclass, older_than => finer)
                WHERE   EXISTS (SELECT FROM show_chunks(relation::regclass, older_than => finer));
            EXCEPTION WHEN lock_not_available THEN
                NULL;
            END;
        END LOOP;
        COMMIT;
    END LOOP;
END
$$
"""


def upgrade() -> None:
    if chosen(op.get_bind()) is StorageEngine.TIMESCALE:
        for statement in (REPAIR, RETAIN):
            op.execute(statement)


def downgrade() -> None:
    """The same is done as before, without what was wrong: it may stay."""
