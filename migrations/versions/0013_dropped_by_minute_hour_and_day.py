"""What clients dropped, by minute, hour and day

Revision ID: 0013
Revises: 0012
Create Date: 2026-11-25

Statistics read single reports, so the reports of one model made the answers about all others slow, and two counts near
2^63 made their sum overflow. Now triggers add each report to rollups in the transaction that stores it, as numeric,
which has no largest value; a report that is deleted or changed is taken out of them. Both engines work alike here: the
reports are an ordinary table on TimescaleDB, too.

A single report is kept to be counted once however often it is sent. Retention deletes it when the raw rows of its time
are gone and it is too old to be sent again; the rollups are kept as long as the aggregates of the same level.

The model's name becomes a part of a report's key: an id that was used for one model suppresses no report of another.
"""

from __future__ import annotations

from alembic import op

from app.infrastructure.maintenance.engines import StorageEngine, chosen

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

LEVELS = ("minute", "hour", "day")

REPORTS = """
LOCK TABLE prediction_loss IN SHARE ROW EXCLUSIVE MODE;

ALTER TABLE prediction_loss
    DROP CONSTRAINT prediction_loss_pkey,
    ADD CONSTRAINT prediction_loss_pkey PRIMARY KEY (id, model_name);

CREATE INDEX prediction_loss_model_time ON prediction_loss (model_name, timestamp);
CREATE INDEX prediction_loss_reported   ON prediction_loss (reported_at)
"""

ROLLUP = """
CREATE TABLE prediction_dropped_{level} (
    bucket      timestamptz  NOT NULL,
    model_name  text         NOT NULL,
    reason      text         NOT NULL,
    dropped     numeric      NOT NULL,
    PRIMARY KEY (model_name, bucket, reason)
) WITH (fillfactor = 70);

CREATE INDEX ON prediction_dropped_{level} (bucket);

INSERT INTO prediction_dropped_{level}
SELECT date_trunc('{level}', timestamp, 'UTC'), model_name, reason, sum(count)
FROM   prediction_loss
GROUP  BY 1, 2, 3
"""

# Rows are added in the order of their keys, and each level after the finer one, so that two statements lock common rows
# in the same order. Nothing is added behind the edge of a level: retention has deleted the other reports from it.
ADD = """
    INSERT INTO prediction_dropped_{level} AS s
    SELECT date_trunc('{level}', timestamp, 'UTC'), model_name, reason, sum(count) * tg_argv[0]::integer
    FROM   touched
    WHERE  timestamp >= coalesce(state.{level}_from, '-infinity')
    GROUP  BY 1, 2, 3
    ORDER  BY 2, 1, 3
    ON CONFLICT (model_name, bucket, reason) DO UPDATE SET dropped = s.dropped + excluded.dropped;
"""
CLEAR = """
    DELETE FROM prediction_dropped_{level} s
    USING  touched t
    WHERE  (s.model_name, s.bucket, s.reason) = (t.model_name, date_trunc('{level}', t.timestamp, 'UTC'), t.reason)
      AND  s.dropped = 0;
"""

# A trigger's argument says whether its rows are added (1) or taken out (-1). Retention deletes reports that stay in the
# rollups: it says so in a setting of its transaction.
KEEP_EXACT = """
CREATE FUNCTION prediction_loss_rolled_up() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    state prediction_stats_state;
BEGIN
    IF tg_op = 'DELETE' AND current_setting('predlog.retention', true) = 'on' THEN
        RETURN NULL;
    END IF;
    SELECT * INTO state FROM prediction_stats_state;
    IF tg_op = 'INSERT' AND EXISTS (SELECT FROM touched WHERE timestamp < state.day_from) THEN
        RAISE EXCEPTION 'older than the retention edge %', state.day_from
        USING ERRCODE = 'PL002', DETAIL = state.day_from;
    END IF;
    {add}
    IF tg_argv[0] = '1' THEN
        RETURN NULL;
    END IF;
    {clear}
    RETURN NULL;
END
$$;

CREATE FUNCTION prediction_loss_truncated() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    TRUNCATE prediction_dropped_minute, prediction_dropped_hour, prediction_dropped_day;
    RETURN NULL;
END
$$;

CREATE TRIGGER prediction_loss_added AFTER INSERT ON prediction_loss
REFERENCING NEW TABLE AS touched FOR EACH STATEMENT EXECUTE FUNCTION prediction_loss_rolled_up('1');

CREATE TRIGGER prediction_loss_removed AFTER DELETE ON prediction_loss
REFERENCING OLD TABLE AS touched FOR EACH STATEMENT EXECUTE FUNCTION prediction_loss_rolled_up('-1');

CREATE TRIGGER prediction_loss_changed_1_to AFTER UPDATE ON prediction_loss
REFERENCING NEW TABLE AS touched FOR EACH STATEMENT EXECUTE FUNCTION prediction_loss_rolled_up('1');

CREATE TRIGGER prediction_loss_changed_2_from AFTER UPDATE ON prediction_loss
REFERENCING OLD TABLE AS touched FOR EACH STATEMENT EXECUTE FUNCTION prediction_loss_rolled_up('-1');

CREATE TRIGGER prediction_loss_truncated AFTER TRUNCATE ON prediction_loss
FOR EACH STATEMENT EXECUTE FUNCTION prediction_loss_truncated()
"""

# Remove what was reported of the minutes that begin in [since, until), NULL standing for any model or bound. The lock
# keeps reports out meanwhile. Deleting the single ones takes them out of the rollups; what is left there in the range
# are those that retention has deleted. Where minutes are gone whole hours are removed, where hours are gone whole days.
REMOVE = """
CREATE FUNCTION prediction_dropped_remove(
    models text[], since timestamptz, until timestamptz, OUT reports bigint, OUT calls numeric
) LANGUAGE plpgsql AS $$
DECLARE
    state prediction_stats_state;
BEGIN
    LOCK TABLE prediction_loss IN SHARE ROW EXCLUSIVE MODE;
    SELECT * INTO state FROM prediction_stats_state;
    since := date_trunc('minute', coalesce(since, '-infinity') + INTERVAL '59.999999 seconds', 'UTC');
    until := date_trunc('minute', coalesce(until, 'infinity')  + INTERVAL '59.999999 seconds', 'UTC');

    WITH gone AS (
        DELETE FROM prediction_loss
        WHERE  (models IS NULL OR model_name = ANY (models)) AND timestamp >= since AND timestamp < until
        RETURNING count
    )
    SELECT count(*), coalesce(sum(count), 0) INTO reports, calls FROM gone;
    {steps}
END
$$
"""
REMOVE_BUCKETS = """
    WITH gone AS (
        DELETE FROM prediction_dropped_{level}
        WHERE  (models IS NULL OR model_name = ANY (models))
          AND  bucket >= since AND bucket + INTERVAL '{width}' <= until AND {only}
        RETURNING *
    ){subtract}
    SELECT calls + coalesce(sum(dropped), 0) INTO calls FROM gone;
"""
SUBTRACT = """, less_{level} AS (
        UPDATE prediction_dropped_{level} s
        SET    dropped = s.dropped - t.dropped
        FROM  (SELECT date_trunc('{level}', bucket, 'UTC') AS bucket, model_name, reason, sum(dropped) AS dropped
               FROM   gone GROUP BY 1, 2, 3) t
        WHERE (s.model_name, s.bucket, s.reason) = (t.model_name, t.bucket, t.reason)
    )"""
CLEAR_REMOVED = """
    DELETE FROM prediction_dropped_{level}
    WHERE  (models IS NULL OR model_name = ANY (models)) AND dropped = 0
      AND  bucket >= date_trunc('{level}', since, 'UTC') AND bucket < until;
"""
# Of each level: how long a bucket is, which buckets nothing finer is left of, and the coarser levels.
REMOVALS = (
    ("minute", "1 minute", "true", ("hour", "day")),
    ("hour", "1 hour", "bucket < state.minute_from", ("day",)),
    ("day", "24 hours", "bucket < state.hour_from", ()),
)

# In pieces, each in a transaction of its own, so that writers do not wait. A report of the last 31 days may be sent
# again: the service refuses a minute that is more than 30 days old.
RETAIN = """
CREATE PROCEDURE prediction_dropped_retain(job_id integer, config jsonb) LANGUAGE plpgsql AS $$
DECLARE
    piece  CONSTANT integer := 20000;
    gone   integer := piece;
    level  text;
BEGIN
    WHILE gone = piece LOOP
        PERFORM set_config('predlog.retention', 'on', true);
        DELETE FROM prediction_loss
        WHERE  ctid = ANY (ARRAY(SELECT ctid FROM prediction_loss
                                 WHERE  timestamp < (SELECT raw_from FROM prediction_stats_state)
                                   AND  reported_at < now() - INTERVAL '31 days' LIMIT piece));
        GET DIAGNOSTICS gone = ROW_COUNT;
        COMMIT;
    END LOOP;
    FOREACH level IN ARRAY ARRAY['minute', 'hour', 'day'] LOOP
        gone := piece;
        WHILE gone = piece LOOP
            EXECUTE format('
                DELETE FROM prediction_dropped_%1$s
                WHERE  ctid = ANY (ARRAY(SELECT ctid FROM prediction_dropped_%1$s
                                         WHERE  bucket < (SELECT %1$s_from FROM prediction_stats_state) LIMIT $1))',
                level)
            USING piece;
            GET DIAGNOSTICS gone = ROW_COUNT;
            COMMIT;
        END LOOP;
    END LOOP;
END
$$
"""

ADD_JOB = "SELECT add_job('prediction_dropped_retain', INTERVAL '1 hour', config => '{}')"
DELETE_JOB = """
SELECT delete_job(job_id) FROM timescaledb_information.jobs WHERE proc_name = 'prediction_dropped_retain'
"""

KEY_BEFORE = """
DELETE FROM prediction_loss a USING prediction_loss b WHERE a.id = b.id AND a.model_name > b.model_name;

ALTER TABLE prediction_loss
    DROP CONSTRAINT prediction_loss_pkey,
    ADD CONSTRAINT prediction_loss_pkey PRIMARY KEY (id);

DROP INDEX prediction_loss_model_time, prediction_loss_reported
"""


def upgrade() -> None:
    op.execute(REPORTS)
    for level in LEVELS:
        op.execute(ROLLUP.format(level=level))
    add, clear = ("".join(part.format(level=level) for level in LEVELS).strip() for part in (ADD, CLEAR))
    for statement in (KEEP_EXACT.format(add=add, clear=clear), REMOVE.format(steps=_removal()), RETAIN):
        op.execute(statement)
    if chosen(op.get_bind()) is StorageEngine.TIMESCALE:
        op.execute(ADD_JOB)


def _removal() -> str:
    steps = [
        REMOVE_BUCKETS.format(
            level=level, width=width, only=only, subtract="".join(SUBTRACT.format(level=each) for each in coarser)
        )
        for level, width, only, coarser in REMOVALS
    ]
    return "".join([*steps, *(CLEAR_REMOVED.format(level=level) for level in LEVELS[1:])]).strip()


def downgrade() -> None:
    """What retention has deleted of the reports is in the rollups alone, and goes with them."""
    if chosen(op.get_bind()) is StorageEngine.TIMESCALE:
        op.execute(DELETE_JOB)
    op.execute("DROP PROCEDURE prediction_dropped_retain(integer, jsonb)")
    op.execute("DROP FUNCTION prediction_dropped_remove(text[], timestamptz, timestamptz)")
    op.execute("DROP FUNCTION prediction_loss_rolled_up() CASCADE")
    op.execute("DROP FUNCTION prediction_loss_truncated() CASCADE")
    for level in LEVELS:
        op.execute(f"DROP TABLE prediction_dropped_{level}")
    op.execute(KEY_BEFORE)
