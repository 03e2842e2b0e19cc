"""Statistics and the latency sketch by minute, hour and day

Revision ID: 0002
Revises: 0001
Create Date: 2026-11-23
"""

from __future__ import annotations

from alembic import op

from app.infrastructure.maintenance.engines import StorageEngine, chosen

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# A bucket of each level is made of whole buckets of the one before it, the first of rows of the log.
# The third column is the length of a chunk where the level is a continuous aggregate.
LEVELS = [
    ("minute", "1 minute", "7 days"),
    ("hour",   "1 hour",   "28 days"),
    ("day",    "1 day",    "84 days"),
]  # fmt: skip

# γ = 1.01 / 0.99, so that a bin's middle is within 1 % of all that fell into it; zero has a bin of its own.
# Not STRICT: PostgreSQL inlines it then, and an aggregate over bins costs no call for each row.
LATENCY_BIN = """
CREATE FUNCTION latency_bin(duration_ms double precision) RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN duration_ms > 0 THEN ceil(ln(duration_ms) / 0.020000666706669435)::integer ELSE -100000 END
"""

LATENCY_OF_BIN = """
CREATE FUNCTION latency_of_bin(bin integer) RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN bin > -100000 THEN 0.99 * exp(bin * 0.020000666706669435) ELSE 0 END
"""

STATS_OF_ROWS = """
SELECT {bucket}('{width}', timestamp{origin})      AS bucket,
       model_name,
       model_version,
       count(*)                                    AS total_requests,
       count(*) FILTER (WHERE was_successful)      AS successful_requests,
       sum(duration_ms)                            AS duration_ms_sum,
       min(duration_ms)                            AS duration_ms_min,
       max(duration_ms)                            AS duration_ms_max
FROM   {source}
GROUP  BY 1, 2, 3
"""

STATS_OF_BUCKETS = """
SELECT {bucket}('{width}', bucket{origin})         AS bucket,
       model_name,
       model_version,
       sum(total_requests)::bigint                 AS total_requests,
       sum(successful_requests)::bigint            AS successful_requests,
       sum(duration_ms_sum)                        AS duration_ms_sum,
       min(duration_ms_min)                        AS duration_ms_min,
       max(duration_ms_max)                        AS duration_ms_max
FROM   {source}
GROUP  BY 1, 2, 3
"""

LATENCY_OF_ROWS = """
SELECT {bucket}('{width}', timestamp{origin})      AS bucket,
       model_name,
       model_version,
       latency_bin(duration_ms)                    AS bin,
       count(*)                                    AS calls
FROM   {source}
GROUP  BY 1, 2, 3, 4
"""

LATENCY_OF_BUCKETS = """
SELECT {bucket}('{width}', bucket{origin})         AS bucket,
       model_name,
       model_version,
       bin,
       sum(calls)::bigint                          AS calls
FROM   {source}
GROUP  BY 1, 2, 3, 4
"""

# Created empty: what a log holds already is materialised in pieces, by the job or by `flask stats refresh`.
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
    duration_ms_sum      double precision  NOT NULL,
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

# Rows are added in the order of their keys, so that two statements lock common rows in the same order.
STATS_ADD = """
    INSERT INTO prediction_stats_{level} AS s
    {query}
    ORDER  BY 2, 1, 3
    ON CONFLICT (model_name, bucket, model_version) DO UPDATE
    SET total_requests      = s.total_requests      + excluded.total_requests,
        successful_requests = s.successful_requests + excluded.successful_requests,
        duration_ms_sum     = s.duration_ms_sum     + excluded.duration_ms_sum,
        duration_ms_min     = least(s.duration_ms_min,    excluded.duration_ms_min),
        duration_ms_max     = greatest(s.duration_ms_max, excluded.duration_ms_max);
"""

LATENCY_ADD = """
    INSERT INTO prediction_latency_{level} AS s
    {query}
    ORDER  BY 2, 1, 3, 4
    ON CONFLICT (model_name, bucket, model_version, bin) DO UPDATE
    SET calls = s.calls + excluded.calls;
"""

# A sum of doubles cannot be taken back and an extreme not be subtracted, so a delete computes its buckets anew:
# the minutes from the rows that are left, the hours from their minutes, the days from their hours.
STATS_REDO = """
    DELETE FROM prediction_stats_{level} s
    USING  (SELECT DISTINCT date_bin('{width}', timestamp, 'epoch') AS bucket, model_name, model_version
            FROM   touched) t
    WHERE  (s.bucket, s.model_name, s.model_version) = (t.bucket, t.model_name, t.model_version);

    INSERT INTO prediction_stats_{level}
    {query};
"""

LEFT_ROWS = """(
    SELECT p.*
    FROM   (SELECT DISTINCT date_bin('{width}', timestamp, 'epoch') AS bucket, model_name, model_version
            FROM   touched) t
    JOIN   prediction_log p
      ON   p.model_name    = t.model_name
     AND   p.model_version = t.model_version
     AND   p.timestamp    >= t.bucket
     AND   p.timestamp    <  t.bucket + INTERVAL '{width}') AS rows_left"""

LEFT_BUCKETS = """(
    SELECT p.*
    FROM   (SELECT DISTINCT date_bin('{width}', timestamp, 'epoch') AS bucket, model_name, model_version
            FROM   touched) t
    JOIN   {source} p
      ON   p.model_name    = t.model_name
     AND   p.model_version = t.model_version
     AND   p.bucket       >= t.bucket
     AND   p.bucket       <  t.bucket + INTERVAL '{width}') AS buckets_left"""

LATENCY_SUBTRACT = """
    UPDATE prediction_latency_{level} s
    SET    calls = s.calls - t.calls
    FROM   ({query}) t
    WHERE  (s.bucket, s.model_name, s.model_version, s.bin) = (t.bucket, t.model_name, t.model_version, t.bin);

    DELETE FROM prediction_latency_{level} s
    USING  ({query}) t
    WHERE  (s.bucket, s.model_name, s.model_version, s.bin) = (t.bucket, t.model_name, t.model_version, t.bin)
      AND  s.calls = 0;
"""

# Inserts share this lock and a delete has it alone: what a delete counts anew, nobody adds to meanwhile.
# Rows that retention drops stay in the aggregates: it says so in a setting of its transaction.
KEEP_EXACT = """
CREATE FUNCTION prediction_log_added() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(hashtext('prediction_stats'));
    {add}
    RETURN NULL;
END
$$;

CREATE FUNCTION prediction_log_removed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('predlog.retention', true) = 'on' THEN
        RETURN NULL;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('prediction_stats'));
    {redo}
    RETURN NULL;
END
$$;

CREATE TRIGGER prediction_log_added AFTER INSERT ON prediction_log
REFERENCING NEW TABLE AS touched FOR EACH STATEMENT EXECUTE FUNCTION prediction_log_added();

CREATE TRIGGER prediction_log_removed AFTER DELETE ON prediction_log
REFERENCING OLD TABLE AS touched FOR EACH STATEMENT EXECUTE FUNCTION prediction_log_removed()
"""


def _time_bucket(template: str, width: str, source: str) -> str:
    return template.format(bucket="time_bucket", width=width, origin="", source=source).strip()


def _date_bin(template: str, width: str, source: str) -> str:
    return template.format(bucket="date_bin", width=width, origin=", 'epoch'", source=source).strip()


def _fill_rollups() -> None:
    """Count what the log holds already."""
    for level, width, _ in LEVELS:
        op.execute(f"INSERT INTO prediction_stats_{level} {_date_bin(STATS_OF_ROWS, width, 'prediction_log')}")
        op.execute(f"INSERT INTO prediction_latency_{level} {_date_bin(LATENCY_OF_ROWS, width, 'prediction_log')}")


def _create_continuous_aggregates() -> None:
    finer = ""
    for level, width, chunk in LEVELS:
        for family, of_rows, of_buckets in (
            ("prediction_stats", STATS_OF_ROWS, STATS_OF_BUCKETS),
            ("prediction_latency", LATENCY_OF_ROWS, LATENCY_OF_BUCKETS),
        ):
            source = f"{family}_{finer}" if finer else "prediction_log"
            query = _time_bucket(of_buckets if finer else of_rows, width, source)
            op.execute(CONTINUOUS_AGGREGATE.format(name=f"{family}_{level}", query=query, chunk=chunk))
        finer = level


def _create_rollups() -> None:
    add, redo, finer = [], [], ""
    for level, width, _ in LEVELS:
        op.execute(STATS_TABLE.format(level=level))
        op.execute(LATENCY_TABLE.format(level=level))
        stats = _date_bin(STATS_OF_ROWS, width, "touched")
        latency = _date_bin(LATENCY_OF_ROWS, width, "touched")
        if finer:
            left = LEFT_BUCKETS.format(width=width, source=f"prediction_stats_{finer}")
            anew = _date_bin(STATS_OF_BUCKETS, width, left)
        else:
            anew = _date_bin(STATS_OF_ROWS, width, LEFT_ROWS.format(width=width))
        add += [STATS_ADD.format(level=level, query=stats), LATENCY_ADD.format(level=level, query=latency)]
        redo += [
            STATS_REDO.format(level=level, width=width, query=anew),
            LATENCY_SUBTRACT.format(level=level, query=latency),
        ]
        finer = level
    op.execute(KEEP_EXACT.format(add="".join(add), redo="".join(redo)))


# Aggregates that are made anew hold nothing yet.
NOTHING_MATERIALIZED = """
UPDATE prediction_stats_state
SET    settled_to = '2000-01-01 00:00:00+00', materialized_to = '2000-01-01 00:00:00+00', generation = generation + 1
"""


def upgrade() -> None:
    op.execute(LATENCY_BIN)
    op.execute(LATENCY_OF_BIN)
    if chosen(op.get_bind()) is StorageEngine.TIMESCALE:
        _create_continuous_aggregates()
        op.execute(NOTHING_MATERIALIZED)
    else:
        op.execute("LOCK TABLE prediction_log IN SHARE MODE")
        _create_rollups()
        _fill_rollups()


def downgrade() -> None:
    timescale = chosen(op.get_bind()) is StorageEngine.TIMESCALE
    if not timescale:
        op.execute("DROP TRIGGER prediction_log_added ON prediction_log")
        op.execute("DROP TRIGGER prediction_log_removed ON prediction_log")
        op.execute("DROP FUNCTION prediction_log_added()")
        op.execute("DROP FUNCTION prediction_log_removed()")
    for level, _, _ in reversed(LEVELS):
        for family in ("prediction_latency", "prediction_stats"):
            if timescale:  # chunk by chunk, or the columnstore's tables would stay behind
                op.execute(f"SELECT drop_chunks('{family}_{level}', older_than => 'infinity'::timestamptz)")
            op.execute(f"DROP {'MATERIALIZED VIEW' if timescale else 'TABLE'} {family}_{level}")
    op.execute("DROP FUNCTION latency_of_bin(integer)")
    op.execute("DROP FUNCTION latency_bin(double precision)")
