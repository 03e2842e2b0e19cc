"""Columnstore, retention, and the jobs that keep the aggregates up

Revision ID: 4_life_cycle
Revises: 3_refresh
Create Date: 2026-11-30
"""

from __future__ import annotations

from alembic import op

revision = "4_life_cycle"
down_revision = "3_refresh"
branch_labels = None
depends_on = None

# Ids are looked up without their time: the columnstore keeps each chunk's range of them. Before the first chunk is
# compressed, or its ids would not be known.
CHUNK_SKIPPING = """
SET LOCAL timescaledb.enable_chunk_skipping = on;
SELECT enable_chunk_skipping('prediction_log', 'id')
"""

# For all sessions of the database or for none: a chunk that a session without the setting has made or compressed has no
# range, and a session with the setting would not look into it. A role that may not alter the database does without.
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
# The last column says after how long a chunk is compressed.
COLUMNSTORE = (
    ("TABLE prediction_log", '"timestamp" DESC', "7 days"),
    ("MATERIALIZED VIEW prediction_stats_minute", "bucket, model_version", "7 days"),
    ("MATERIALIZED VIEW prediction_stats_hour", "bucket, model_version", "1 day"),
    ("MATERIALIZED VIEW prediction_latency_minute", "bucket, model_version, bin", "7 days"),
    ("MATERIALIZED VIEW prediction_latency_hour", "bucket, model_version, bin", "1 day"),
    ("MATERIALIZED VIEW prediction_latency_day", "bucket, model_version, bin", "1 day"),
)
COLUMNSTORE_ON = """
ALTER {relation} SET (timescaledb.enable_columnstore, timescaledb.segmentby = 'model_name',
                      timescaledb.orderby = '{order}')
"""

# By default each unique index has a Bloom filter in every batch, a third of what a row takes there. Ids grow with
# time: their least and greatest say as much. TimescaleDB before 2.24 does not know the setting.
SPARSE_INDEX = """
DO $$
BEGIN
    ALTER TABLE prediction_log SET (timescaledb.enable_columnstore, timescaledb.segmentby = 'model_name',
        timescaledb.orderby = '"timestamp" DESC', timescaledb.sparse_index = 'minmax(id),bloom(request_id)');
EXCEPTION WHEN feature_not_supported OR invalid_parameter_value THEN
    NULL;
END
$$
"""

# TimescaleDB before 2.24 wants a refresh policy on an aggregate first, which would run beside our job: chunks of
# aggregates stay in rows there.
COLUMNSTORE_POLICY = """
DO $$
BEGIN
    CALL add_columnstore_policy('{name}', after => INTERVAL '{after}');
EXCEPTION WHEN feature_not_supported THEN
    IF '{name}' = 'prediction_log' THEN
        RAISE;
    END IF;
END
$$
"""

JOBS = """
SELECT add_job('prediction_stats_job', INTERVAL '5 seconds', config => '{}');
SELECT add_job('prediction_model_job', INTERVAL '1 day', initial_start => now() + INTERVAL '1 day')
"""
NO_JOBS = """
SELECT delete_job(job_id) FROM timescaledb_information.jobs
WHERE  proc_schema = current_schema() AND proc_name IN ('prediction_stats_job', 'prediction_model_job')
"""

PROCEDURES = (
    "prediction_stats_job(integer, jsonb)",
    "prediction_stats_retain(jsonb)",
    "prediction_model_job(integer, jsonb)",
)


def upgrade() -> None:
    op.run_sql(
        "common/prediction_model_unused",
        "common/prediction_model_remove_unused",
        "common/prediction_model_tidy",
        "plain/prediction_log_gone",
        "plain/prediction_stats_forget",
        "plain/prediction_end_reads",
        "timescale/prediction_stats_forget",
        "timescale/prediction_end_reads",
    )
    if op.storage_engine() == "timescale":
        _set_up_columnstore()
        op.run_sql(
            "tables/prediction_stats_holder",
            "timescale/prediction_stats_hold",
            "timescale/prediction_stats_release",
            "timescale/prediction_stats_retain",
            "timescale/prediction_stats_job",
            "timescale/prediction_model_job",
        )
        op.execute(JOBS)


def _set_up_columnstore() -> None:
    op.execute(CHUNK_SKIPPING)
    op.execute(SKIP_IN_ALL_SESSIONS)
    for relation, order, after in COLUMNSTORE:
        op.execute(COLUMNSTORE_ON.format(relation=relation, order=order))
        op.execute(COLUMNSTORE_POLICY.format(name=relation.split()[-1], after=after))
    op.execute(SPARSE_INDEX)


def downgrade() -> None:
    if op.storage_engine() == "timescale":
        op.execute(NO_JOBS)
        for procedure in PROCEDURES:
            op.execute(f"DROP PROCEDURE {procedure}")
        op.execute("DROP FUNCTION prediction_stats_hold(); DROP FUNCTION prediction_stats_release()")
        op.execute("DROP TABLE prediction_stats_holder")
        op.execute(NO_CHUNK_SKIPPING)
        # Chunks in the columnstore stay there; the downgrades of the revisions below drop them.
        for relation, _, _ in COLUMNSTORE:
            op.execute(f"CALL remove_columnstore_policy('{relation.split()[-1]}', if_exists => true)")
    else:
        op.execute("DROP FUNCTION prediction_log_gone() CASCADE")
    op.execute("DROP FUNCTION prediction_end_reads(interval)")
    op.execute("DROP FUNCTION prediction_stats_forget(text, text, timestamptz, timestamptz)")
    op.execute("DROP PROCEDURE prediction_model_tidy(text[])")
    op.execute("DROP FUNCTION prediction_model_remove_unused(text[])")
    op.execute("DROP FUNCTION prediction_model_unused(text[])")
