"""Columnstore, retention, and the job that keeps the aggregates up

Revision ID: 0004
Revises: 0003
Create Date: 2026-11-23
"""

from __future__ import annotations

from alembic import op
from psycopg2.errors import FeatureNotSupported
from sqlalchemy.exc import DBAPIError

from app.infrastructure.maintenance.engines import StorageEngine, chosen

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# Ids are looked up without their time: the columnstore keeps each chunk's range of them. Before the first chunk is
# compressed, or its ids would not be known.
CHUNK_SKIPPING = """
SET LOCAL timescaledb.enable_chunk_skipping = on;
SELECT enable_chunk_skipping('prediction_log', 'id')
"""

# For all sessions of the database or for none: a chunk that one without the setting has made or compressed has no
# range, and one with the setting would not look into it. Who may not alter the database does without.
SKIP_IN_ALL_SESSIONS = """
DO $$
BEGIN
    EXECUTE format('ALTER DATABASE %I SET timescaledb.enable_chunk_skipping = on', current_database());
EXCEPTION WHEN insufficient_privilege THEN
    RAISE NOTICE 'only the owner of the database can have chunks skipped when an id is looked up';
END
$$
"""

NO_CHUNK_SKIPPING = """
SET LOCAL timescaledb.enable_chunk_skipping = on;
SELECT disable_chunk_skipping('prediction_log', 'id');
DO $$
BEGIN
    EXECUTE format('ALTER DATABASE %I RESET timescaledb.enable_chunk_skipping', current_database());
EXCEPTION WHEN insufficient_privilege THEN
    NULL;
END
$$
"""

# id must not be in orderby: deletes by id would have to unpack more, and on TimescaleDB 2.23 they would miss rows.
COLUMNSTORE = {
    "TABLE prediction_log": '"timestamp" DESC',
    "MATERIALIZED VIEW prediction_stats_minute": "bucket, model_version",
    "MATERIALIZED VIEW prediction_stats_hour": "bucket, model_version",
    "MATERIALIZED VIEW prediction_latency_minute": "bucket, model_version, bin",
    "MATERIALIZED VIEW prediction_latency_hour": "bucket, model_version, bin",
    "MATERIALIZED VIEW prediction_latency_day": "bucket, model_version, bin",
}

COLUMNSTORE_ON = """
ALTER {relation} SET (timescaledb.enable_columnstore, timescaledb.segmentby = 'model_name',
                      timescaledb.orderby = '{order}')
"""

COLUMNSTORE_POLICY = "CALL add_columnstore_policy('{name}', after => INTERVAL '7 days')"

# Raw rows go first: aggregates are made of what is finer, and must outlive it. The edge moves under the lock that
# keeps writers out, then behind it nothing is read, written or repaired any more, and only then are chunks dropped.
RETAIN = """
CREATE PROCEDURE prediction_stats_retain(keep jsonb) LANGUAGE plpgsql AS $$
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

# Every few seconds, and never beside a refresh by hand: TimescaleDB would take what that one has just begun for done.
JOB = """
CREATE PROCEDURE prediction_stats_job(job_id integer, config jsonb) LANGUAGE plpgsql AS $$
DECLARE
    up_to       timestamptz;
    done        boolean;
    hours_left  bigint;
BEGIN
    IF NOT pg_try_advisory_lock(hashtext('prediction_stats_refresh')) THEN
        RETURN;
    END IF;
    LOOP
        -- The watermark goes on between two days of a long repair.
        CALL prediction_stats_settle();
        COMMIT;
        LOOP
            CALL prediction_stats_advance(INTERVAL '1 day', up_to, done);
            EXIT WHEN done;
        END LOOP;
        CALL prediction_stats_repair(hours_left);
        EXIT WHEN hours_left = 0;
    END LOOP;
    CALL prediction_stats_retain(config);
    PERFORM pg_advisory_unlock(hashtext('prediction_stats_refresh'));
END
$$
"""

ADD_JOB = "SELECT add_job('prediction_stats_job', INTERVAL '5 seconds', config => '{}')"


def upgrade() -> None:
    if chosen(op.get_bind()) is not StorageEngine.TIMESCALE:
        return
    op.execute(CHUNK_SKIPPING)
    op.execute(SKIP_IN_ALL_SESSIONS)
    for relation, order in COLUMNSTORE.items():
        op.execute(COLUMNSTORE_ON.format(relation=relation, order=order))
        _add_policy(relation.split()[-1])
    for statement in (RETAIN, JOB, ADD_JOB):
        op.execute(statement)


def _add_policy(name: str) -> None:
    try:
        with op.get_bind().begin_nested():
            op.execute(COLUMNSTORE_POLICY.format(name=name))
    except DBAPIError as error:
        # TimescaleDB before 2.24 wants a refresh policy first, which would run beside the job: do without there.
        if name == "prediction_log" or not isinstance(error.orig, FeatureNotSupported):
            raise


def downgrade() -> None:
    if chosen(op.get_bind()) is not StorageEngine.TIMESCALE:
        return
    op.execute("SELECT delete_job(job_id) FROM timescaledb_information.jobs WHERE proc_name = 'prediction_stats_job'")
    op.execute("DROP PROCEDURE prediction_stats_job(integer, jsonb)")
    op.execute("DROP PROCEDURE prediction_stats_retain(jsonb)")
    op.execute(NO_CHUNK_SKIPPING)
    # What is in the columnstore stays there; the revisions below drop it chunk by chunk.
    for relation in COLUMNSTORE:
        op.execute(f"CALL remove_columnstore_policy('{relation.split()[-1]}', if_exists => true)")
