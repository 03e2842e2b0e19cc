"""Locks that only the owner can take, triggers that act with the owner's rights

Revision ID: 0016
Revises: 0015
Create Date: 2026-11-25

Advisory locks belong to everyone: whoever could log in could hold ours, and with them stop all writing (plain) or all
refreshing (TimescaleDB). Writers on the plain engine now lock a table of its own, to which nobody but the owner has any
right; the job notes in a table which session is at work, and takes over when that session is gone.

A role that may only insert and delete calls needs triggers that write the aggregates for it. So they run with their
owner's rights, and look for tables and functions nowhere but where the migration has put them.
"""

from __future__ import annotations

from alembic import op

from app.infrastructure.maintenance.engines import StorageEngine, chosen

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

# ROW EXCLUSIVE goes with itself, as the shared lock did; SHARE ROW EXCLUSIVE waits for all others, itself included.
WRITERS = """
CREATE TABLE prediction_stats_lock ();
COMMENT ON TABLE prediction_stats_lock IS
'Always empty. Inserts into prediction_log lock it as writers do, deletes have it alone.'
"""
ADDED = (
    "PERFORM pg_advisory_xact_lock_shared(hashtext('prediction_stats'))",
    "LOCK TABLE prediction_stats_lock IN ROW EXCLUSIVE MODE",
)
REMOVED = (
    "PERFORM pg_advisory_xact_lock(hashtext('prediction_stats'))",
    "LOCK TABLE prediction_stats_lock IN SHARE ROW EXCLUSIVE MODE",
)
REPLACE = """
DO $do$
DECLARE
    before text := pg_get_functiondef('{function}'::regproc);
    after  text := replace(before, $text${old}$text$, $text${new}$text$);
BEGIN
    ASSERT after <> before, 'nothing to replace in {function}';
    EXECUTE after;
END
$do$
"""

# One row: which session keeps the aggregates up. A session is known by its process and the time it began; one that is
# gone holds nothing. The row is locked first, so that of two sessions that look at once only one finds it free.
HOLDER = """
CREATE TABLE prediction_stats_holder (pid integer, since timestamptz);
INSERT INTO prediction_stats_holder VALUES (NULL, NULL);

CREATE FUNCTION prediction_stats_hold() RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    holder prediction_stats_holder;
BEGIN
    SELECT * INTO holder FROM prediction_stats_holder FOR UPDATE;
    PERFORM pg_stat_clear_snapshot();
    IF holder.pid <> pg_backend_pid() AND EXISTS (
        SELECT FROM pg_stat_activity a
        WHERE  a.pid = holder.pid AND coalesce(a.backend_start = holder.since, true)
    ) THEN
        RETURN false;
    END IF;
    UPDATE prediction_stats_holder
    SET    pid = pg_backend_pid(), since = (SELECT backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid());
    RETURN true;
END
$$;

CREATE FUNCTION prediction_stats_release() RETURNS void LANGUAGE sql AS $$
    UPDATE prediction_stats_holder SET pid = NULL, since = NULL WHERE pid = pg_backend_pid()
$$
"""

JOB = """
CREATE OR REPLACE PROCEDURE prediction_stats_job(job_id integer, config jsonb) LANGUAGE plpgsql AS $$
DECLARE
    until       timestamptz := clock_timestamp() + INTERVAL '30 seconds';
    up_to       timestamptz;
    done        boolean;
    hours_left  bigint;
BEGIN
    IF NOT {hold} THEN
        RETURN;
    END IF;
    COMMIT;
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
    PERFORM {release};
END
$$
"""
BY_HOLDER = {"hold": "prediction_stats_hold()", "release": "prediction_stats_release()"}
BY_ADVISORY_LOCK = {
    "hold": "pg_try_advisory_lock(hashtext('prediction_stats_refresh'))",
    "release": "pg_advisory_unlock(hashtext('prediction_stats_refresh'))",
}

# The limits of a role's own sessions it can lift itself. This ends those of Grafana's role that take longer, and those
# that hold advisory locks, with which it could fill the table of locks. Jobs of its own it should not be able to have.
END_READS = """
CREATE FUNCTION prediction_end_reads(longer_than interval) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    {jobs}
    RETURN (
        SELECT count(pg_terminate_backend(a.pid))
        FROM   pg_stat_activity a
        WHERE  a.usename = 'predlog_reader' AND a.datname = current_database()
          AND  (a.state <> 'idle' AND least(a.xact_start, a.query_start) < clock_timestamp() - longer_than
                OR EXISTS (SELECT FROM pg_locks l WHERE l.pid = a.pid AND l.locktype = 'advisory'))
    );
END
$$
"""
END_JOBS = """
    PERFORM delete_job(job_id) FROM timescaledb_information.jobs WHERE owner::text = 'predlog_reader';
"""

# Where the functions of the extension are is part of what they may find; temporary tables come last.
WITH_OWNERS_RIGHTS = """
DO $do$
DECLARE
    path text := concat_ws(', ', quote_ident(current_schema()),
        (SELECT quote_ident(nspname) FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
         WHERE  extname = 'timescaledb' AND nspname <> current_schema()), 'pg_temp');
BEGIN
    EXECUTE format('ALTER FUNCTION {function} SECURITY DEFINER SET search_path = %s', path);
END
$do$
"""
WITH_CALLERS_RIGHTS = "ALTER FUNCTION {function} SECURITY INVOKER RESET search_path"

COMMON = (
    "prediction_log_named()",
    "prediction_loss_rolled_up()",
    "prediction_loss_truncated()",
    "prediction_dropped_remove(text[], timestamptz, timestamptz)",
)
WRITING = {
    StorageEngine.PLAIN: ("prediction_log_added()", "prediction_log_removed()", *COMMON),
    StorageEngine.TIMESCALE: ("prediction_log_changed()", "prediction_log_row_removed()", *COMMON),
}

# What the aggregates alone still know of a model, because its single calls are gone: a purge takes that out, too.
FORGET = """
CREATE FUNCTION prediction_stats_forget(model text, version text, since timestamptz, until timestamptz)
RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    edge      timestamptz := (SELECT raw_from FROM prediction_stats_state);
    relation  text;
    gone      bigint;
    total     bigint := 0;
BEGIN
    FOREACH relation IN ARRAY {relations} LOOP
        EXECUTE format('DELETE FROM %s WHERE model_name = $1 AND ($2 IS NULL OR model_version = $2)
                        AND bucket >= $3 AND bucket < $4', relation)
        USING model, version, since, least(until, coalesce(edge, '-infinity'));
        GET DIAGNOSTICS gone = ROW_COUNT;
        total := total + gone;
    END LOOP;
    -- What is remembered of buckets holds for a generation.
    UPDATE prediction_stats_state SET generation = generation + 1;
    RETURN total;
END
$$
"""
RELATIONS = """ARRAY['prediction_stats_minute', 'prediction_stats_hour', 'prediction_stats_day',
                                    'prediction_latency_minute', 'prediction_latency_hour', 'prediction_latency_day']"""
HYPERTABLES = """ARRAY(
        SELECT format('%I.%I', materialization_hypertable_schema, materialization_hypertable_name)
        FROM   timescaledb_information.continuous_aggregates
        WHERE  view_name ~ '^prediction_(stats|latency)_')"""
FORGETTING = "prediction_stats_forget(text, text, timestamptz, timestamptz)"


def upgrade() -> None:
    engine = chosen(op.get_bind())
    timescale = engine is StorageEngine.TIMESCALE
    if timescale:
        op.execute(HOLDER)
        op.execute(JOB.format(**BY_HOLDER))
    else:
        op.execute("LOCK TABLE prediction_log IN SHARE MODE")  # who still holds the old lock has to end first
        op.execute(WRITERS)
        for function, (old, new) in (("prediction_log_added", ADDED), ("prediction_log_removed", REMOVED)):
            op.execute(REPLACE.format(function=function, old=old, new=new))
    op.execute(END_READS.format(jobs=END_JOBS if timescale else ""))
    op.execute(FORGET.format(relations=HYPERTABLES if timescale else RELATIONS))
    for function in (*WRITING[engine], "prediction_end_reads(interval)", FORGETTING):
        op.execute(WITH_OWNERS_RIGHTS.format(function=function))


def downgrade() -> None:
    engine = chosen(op.get_bind())
    op.execute("DROP FUNCTION prediction_end_reads(interval)")
    op.execute(f"DROP FUNCTION {FORGETTING}")
    for function in WRITING[engine]:
        op.execute(WITH_CALLERS_RIGHTS.format(function=function))
    if engine is StorageEngine.TIMESCALE:
        op.execute(JOB.format(**BY_ADVISORY_LOCK))
        op.execute("DROP FUNCTION prediction_stats_hold(); DROP FUNCTION prediction_stats_release()")
        op.execute("DROP TABLE prediction_stats_holder")
    else:
        op.execute("LOCK TABLE prediction_log IN SHARE MODE")
        for function, (old, new) in (("prediction_log_added", ADDED), ("prediction_log_removed", REMOVED)):
            op.execute(REPLACE.format(function=function, old=new, new=old))
        op.execute("DROP TABLE prediction_stats_lock")
