"""What clients count instead of sending it whole

A summary counts predictions of one model, version and minute, with the bins of the latency sketch. Triggers add each
summary to rollups by minute, hour and day, in the transaction that stores it. The engines work alike here, because
these are ordinary tables on TimescaleDB, too; on Citus they are spread as the log is. A single summary is kept as long
as it may be sent again, to be counted once; the rollups are kept as long as the aggregates of the same level.

Revision ID: 8_summaries
Revises: 7_halves_of_calls
Create Date: 2026-11-30
"""

from __future__ import annotations

from alembic import op

revision = "8_summaries"
down_revision = "7_halves_of_calls"
branch_labels = None
depends_on = None

LEVELS = ("minute", "hour", "day")

# The model's name is a part of the key: an id that was used for one model suppresses no summary of another.
SUMMARIES = """
CREATE TABLE prediction_summary (
    id                   uuid              NOT NULL,
    timestamp            timestamptz       NOT NULL,
    model_name           text              NOT NULL,
    model_version        text              NOT NULL,
    total_requests       bigint            NOT NULL,
    successful_requests  bigint            NOT NULL,
    duration_ms_sum      double precision  NOT NULL,
    duration_ms_min      double precision  NOT NULL,
    duration_ms_max      double precision  NOT NULL,
    bins                 integer[]         NOT NULL,
    bin_calls            bigint[]          NOT NULL,
    reported_at          timestamptz       NOT NULL DEFAULT now(),
    CONSTRAINT prediction_summary_pkey PRIMARY KEY (id, model_name),
    CONSTRAINT prediction_summary_counts CHECK
        (total_requests > 0 AND successful_requests BETWEEN 0 AND total_requests),
    CONSTRAINT prediction_summary_bins CHECK (cardinality(bins) = cardinality(bin_calls))
);

CREATE INDEX prediction_summary_model_time ON prediction_summary (model_name, timestamp);
CREATE INDEX prediction_summary_reported   ON prediction_summary (reported_at)
"""

ROLLUPS = """
CREATE TABLE prediction_summary_{level} (
    bucket               timestamptz       NOT NULL,
    model_name           text              NOT NULL,
    model_version        text              NOT NULL,
    total_requests       bigint            NOT NULL,
    successful_requests  bigint            NOT NULL,
    duration_ns_sum      numeric           NOT NULL,
    duration_ms_min      double precision  NOT NULL,
    duration_ms_max      double precision  NOT NULL,
    PRIMARY KEY (model_name, bucket, model_version)
) WITH (fillfactor = 70);

CREATE INDEX ON prediction_summary_{level} (bucket);

CREATE TABLE prediction_summary_latency_{level} (
    bucket         timestamptz  NOT NULL,
    model_name     text         NOT NULL,
    model_version  text         NOT NULL,
    bin            integer      NOT NULL,
    calls          bigint       NOT NULL,
    PRIMARY KEY (model_name, bucket, model_version, bin)
) WITH (fillfactor = 70);

CREATE INDEX ON prediction_summary_latency_{level} (bucket)
"""

ADD_JOB = "SELECT add_job('prediction_summary_retain', INTERVAL '1 hour', config => '{}')"
DELETE_JOB = """
SELECT delete_job(job_id) FROM timescaledb_information.jobs
WHERE  proc_schema = current_schema() AND proc_name = 'prediction_summary_retain'
"""


def upgrade() -> None:
    op.execute(SUMMARIES)
    op.distribute("prediction_summary")
    for level in LEVELS:
        op.execute(ROLLUPS.format(level=level))
        op.distribute(f"prediction_summary_{level}", f"prediction_summary_latency_{level}")
    op.run_sql(
        "summaries/prediction_summary_retained",
        "summaries/prediction_summary_rolled_up",
        "summaries/prediction_summary_append_only",
        "summaries/prediction_summary_remove",
        "summaries/prediction_summary_forget",
        "summaries/prediction_summary_retain",
        "summaries/prediction_model_unused",
        "citus/summaries/prediction_model_remove_unused",
    )
    if op.storage_engine() == "timescale":
        op.execute(ADD_JOB)


def downgrade() -> None:
    if op.storage_engine() == "timescale":
        op.execute(DELETE_JOB)
    op.execute("DROP TABLE prediction_summary")
    for level in LEVELS:
        op.execute(f"DROP TABLE prediction_summary_{level}, prediction_summary_latency_{level}")
    op.run_sql("common/prediction_model_unused", "citus/prediction_model_remove_unused")
    op.execute("DROP PROCEDURE prediction_summary_retain(integer, jsonb)")
    for name in ("remove", "forget"):
        op.execute(f"DROP FUNCTION prediction_summary_{name}(text, text, timestamptz, timestamptz)")
    for name in ("retained", "rolled_up", "append_only"):
        op.execute(f"DROP FUNCTION prediction_summary_{name}()")
