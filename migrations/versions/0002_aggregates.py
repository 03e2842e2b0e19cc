"""Statistics and the latency sketch by minute, hour and day

Revision ID: 2_aggregates
Revises: 1_log
Create Date: 2026-11-30
"""

from __future__ import annotations

from alembic import op

revision = "2_aggregates"
down_revision = "1_log"
branch_labels = None
depends_on = None

# A bucket of each level is made of whole buckets of the one before it, the first of rows of the log.
# The third column is the length of a chunk if the level is a continuous aggregate: short enough that the hours and days
# of a month or two are in the columnstore, since what lies in rows is read row by row.
LEVELS = [
    ("minute", "1 minute", "7 days"),
    ("hour",   "1 hour",   "7 days"),
    ("day",    "1 day",    "28 days"),
]  # fmt: skip

STATS_OF_ROWS = """
SELECT {bucket}                                    AS bucket,
       model_name,
       model_version,
       count(*)                                    AS total_requests,
       count(*) FILTER (WHERE was_successful)      AS successful_requests,
       coalesce(sum(duration_ns(duration_ms)), 0)
       + coalesce(sum(long_duration_ns(duration_ms)), 0) AS duration_ns_sum,
       min(duration_ms)                            AS duration_ms_min,
       max(duration_ms)                            AS duration_ms_max
FROM   prediction_log
GROUP  BY 1, 2, 3
"""

LATENCY_OF_ROWS = """
SELECT {bucket}                                    AS bucket,
       model_name,
       model_version,
       latency_bin(duration_ms)                    AS bin,
       count(*)                                    AS calls
FROM   prediction_log
GROUP  BY 1, 2, 3, 4
"""

LATENCY_OF_BUCKETS = """
SELECT {bucket}                                    AS bucket,
       model_name,
       model_version,
       bin,
       sum(calls)::bigint                          AS calls
FROM   prediction_latency_{finer}
GROUP  BY 1, 2, 3, 4
"""

# Created empty: the job or `flask stats refresh` computes them in pieces.
# Read below the watermark only, so TimescaleDB's own union with newer rows is not wanted.
CONTINUOUS_AGGREGATE = """
CREATE MATERIALIZED VIEW {name}
WITH   (timescaledb.continuous, timescaledb.materialized_only = true, timescaledb.create_group_indexes = false)
AS     {query}
WITH   NO DATA;

SELECT set_chunk_time_interval('{name}', INTERVAL '{chunk}');

CREATE INDEX ON {name} (model_name, bucket)
"""

STATS_TABLE = """
CREATE TABLE prediction_stats_{level} (
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

CREATE INDEX ON prediction_stats_{level} (bucket)
"""

LATENCY_TABLE = """
CREATE TABLE prediction_latency_{level} (
    bucket         timestamptz  NOT NULL,
    model_name     text         NOT NULL,
    model_version  text         NOT NULL,
    bin            integer      NOT NULL,
    calls          bigint       NOT NULL,
    PRIMARY KEY (model_name, bucket, model_version, bin)
) WITH (fillfactor = 70);

CREATE INDEX ON prediction_latency_{level} (bucket)
"""


def upgrade() -> None:
    op.run_sql("common/latency_sketch", "common/duration_ns")
    if op.storage_engine() == "timescale":
        _create_continuous_aggregates()
        return
    op.execute("LOCK TABLE prediction_log IN SHARE MODE")
    for level, width, _ in LEVELS:
        bucket = f"date_bin('{width}', timestamp, 'epoch')"
        op.execute(STATS_TABLE.format(level=level))
        op.execute(f"INSERT INTO prediction_stats_{level} {STATS_OF_ROWS.format(bucket=bucket)}")
        op.execute(LATENCY_TABLE.format(level=level))
        op.execute(f"INSERT INTO prediction_latency_{level} {LATENCY_OF_ROWS.format(bucket=bucket)}")
        op.distribute(f"prediction_stats_{level}", f"prediction_latency_{level}")
    op.run_sql("tables/prediction_stats_lock", "plain/prediction_log_added", "plain/prediction_log_removed")


def _create_continuous_aggregates() -> None:
    op.run_sql("tables/prediction_stats_timescale")
    finer = ""
    for level, width, chunk in LEVELS:
        bucket = f"time_bucket('{width}', {'bucket' if finer else 'timestamp'})"
        query = (LATENCY_OF_BUCKETS if finer else LATENCY_OF_ROWS).format(bucket=bucket, finer=finer).strip()
        op.execute(CONTINUOUS_AGGREGATE.format(name=f"prediction_latency_{level}", query=query, chunk=chunk))
        finer = level


def downgrade() -> None:
    timescale = op.storage_engine() == "timescale"
    if not timescale:
        op.execute("DROP FUNCTION prediction_log_added() CASCADE")
        op.execute("DROP FUNCTION prediction_log_removed() CASCADE")
        op.execute("DROP TABLE prediction_stats_lock")
    for level, _, _ in reversed(LEVELS):
        for family in ("prediction_latency", "prediction_stats"):
            if timescale:  # chunk by chunk, or the columnstore's tables would stay behind
                op.execute(f"SELECT drop_chunks('{family}_{level}', older_than => 'infinity'::timestamptz)")
            op.execute(f"DROP {'MATERIALIZED VIEW' if timescale else 'TABLE'} {family}_{level}")
    op.execute("DROP FUNCTION long_duration_ns(double precision)")
    op.execute("DROP FUNCTION duration_ns(double precision)")
    op.execute("DROP FUNCTION latency_of_bin(integer)")
    op.execute("DROP FUNCTION latency_bin(double precision)")
    op.execute("DROP FUNCTION latency_ln_gamma()")
