"""The names of all models and versions, and how many new ones each caller may log

Revision ID: 0015
Revises: 0014
Create Date: 2026-11-25

A page of the models used to be cut from the counts of all of them. Now their names have a table of their own, in the
order of their bytes, that a trigger keeps in the transaction of each insert: a page reads as many as it shows. A name
without any call left is no fault there, since readers count the calls of each name; it is taken out once a day.
"""

from __future__ import annotations

import re

from alembic import op

from app.infrastructure.maintenance.engines import StorageEngine, chosen

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE prediction_model (
    model_name     text COLLATE "C"  NOT NULL,
    model_version  text COLLATE "C"  NOT NULL,
    CONSTRAINT prediction_model_pkey PRIMARY KEY (model_name, model_version)
);

CREATE TABLE prediction_model_allowance (
    caller   text              CONSTRAINT prediction_model_allowance_pkey PRIMARY KEY,
    tat      timestamptz       NOT NULL,
    granted  integer           NOT NULL
)
"""

# In the order of the names, so that two statements with common new names wait for each other in one direction only.
# A name that is there costs a look into the index: nothing is written.
TRIGGER = """
CREATE FUNCTION prediction_log_named() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO prediction_model (model_name, model_version)
    SELECT DISTINCT model_name COLLATE "C", model_version COLLATE "C"
    FROM   touched
    ORDER  BY 1, 2
    ON CONFLICT DO NOTHING;
    RETURN NULL;
END
$$;

CREATE TRIGGER prediction_log_named AFTER INSERT ON prediction_log
REFERENCING NEW TABLE AS touched FOR EACH STATEMENT EXECUTE FUNCTION prediction_log_named()
"""

# Each call is in a day that is whole at the watermark, or in an hour or minute after that day, or in rows after the
# watermark, or in rows that changed behind it. On the plain engine the watermark is the end of time: the days have all.
SOURCES = """
    SELECT model_name, model_version FROM prediction_stats_day
    UNION ALL
    SELECT model_name, model_version FROM prediction_stats_hour
    WHERE  bucket >= date_trunc('day', {watermark}, 'UTC')
    UNION ALL
    SELECT model_name, model_version FROM prediction_stats_minute
    WHERE  bucket >= date_trunc('hour', {watermark}, 'UTC')
    UNION ALL
    SELECT model_name, model_version FROM prediction_log
    WHERE  timestamp >= {watermark}
    UNION ALL
    SELECT p.model_name, p.model_version
    FROM   prediction_stats_change c
    JOIN   prediction_log p ON p.timestamp >= c.changed_from AND p.timestamp < c.changed_to
"""

FILL = f"""
DO $$
BEGIN
    EXECUTE format($fill$
        INSERT INTO prediction_model (model_name, model_version)
        SELECT DISTINCT model_name, model_version FROM ({SOURCES.format(watermark="%1$L::timestamptz")}) AS names
    $fill$, (SELECT materialized_to FROM prediction_stats_state));
END
$$
"""

# With literal bounds, so that few chunks are looked at, and in the collation of their indexes. A bucket that is not yet
# repaired counts as a call.
UNUSED = f"""
CREATE FUNCTION prediction_model_unused(among text[]) RETURNS SETOF prediction_model LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY EXECUTE format($unused$
        SELECT m.*
        FROM   prediction_model m
        WHERE  ($1 IS NULL OR m.model_name = ANY ($1))
          AND  NOT EXISTS (SELECT FROM ({SOURCES.format(watermark="%1$L::timestamptz")}) AS s
                           WHERE  s.model_name    = m.model_name    COLLATE "default"
                             AND  s.model_version = m.model_version COLLATE "default")
    $unused$, (SELECT materialized_to FROM prediction_stats_state)) USING among;
END
$$
"""

# `among` are names of models, NULL stands for all. A name that is taken out while somebody logs its next call would be
# missing: so the second look is behind a lock that writers do not hold. ONLY: they name the hypertable itself.
TIDY = """
CREATE PROCEDURE prediction_model_tidy(among text[]) LANGUAGE plpgsql AS $$
DECLARE
    names  text[] := ARRAY(SELECT DISTINCT model_name FROM prediction_model_unused(among));
    place  integer := 1;
BEGIN
    DELETE FROM prediction_model_allowance WHERE tat < clock_timestamp();
    COMMIT;
    WHILE place <= cardinality(names) LOOP
        BEGIN
            PERFORM set_config('lock_timeout', '250ms', true);
            LOCK TABLE ONLY prediction_log IN SHARE MODE;
            DELETE FROM prediction_model m
            USING  prediction_model_unused(names[place : place + 499]) u
            WHERE  (m.model_name, m.model_version) = (u.model_name, u.model_version);
        EXCEPTION WHEN lock_not_available THEN
            NULL;  -- a long write is under way: other writers must not wait for us, the next run takes the names out
        END;
        COMMIT;
        place := place + 500;
    END LOOP;
END
$$
"""

JOB = """
CREATE PROCEDURE prediction_model_job(job_id integer, config jsonb) LANGUAGE plpgsql AS $$
BEGIN
    CALL prediction_model_tidy(NULL);
END
$$;

SELECT add_job('prediction_model_job', INTERVAL '1 day', initial_start => now() + INTERVAL '1 day')
"""
NO_JOB = """
SELECT delete_job(job_id) FROM timescaledb_information.jobs WHERE proc_name = 'prediction_model_job';
DROP PROCEDURE prediction_model_job(integer, jsonb)
"""

# A statement that removes many rows notes all of their times at once: row by row there would be a note for each minute.
# It says so, and for which times, in a setting of its transaction.
ROW_REMOVED = """
CREATE OR REPLACE FUNCTION prediction_log_row_removed() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    since  timestamptz := time_bucket('1 minute', old.timestamp);
BEGIN
    IF since::text = current_setting('predlog.noted', true)
    OR old.timestamp <@ nullif(current_setting('predlog.noted_range', true), '')::tstzrange THEN
        RETURN NULL;
    END IF;
    IF old.timestamp < (SELECT settled_to FROM prediction_stats_state)
    OR current_setting('transaction_isolation') <> 'read committed' THEN
        INSERT INTO prediction_stats_change (changed_from, changed_to) VALUES (since, since + INTERVAL '1 minute');
        PERFORM set_config('predlog.noted', since::text, true);
    END IF;
    RETURN NULL;
END
$$
"""
ROW_REMOVED_BEFORE = """
CREATE OR REPLACE FUNCTION prediction_log_row_removed() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    since  timestamptz := time_bucket('1 minute', old.timestamp);
BEGIN
    IF since::text = current_setting('predlog.noted', true) THEN
        RETURN NULL;
    END IF;
    IF old.timestamp < (SELECT settled_to FROM prediction_stats_state)
    OR current_setting('transaction_isolation') <> 'read committed' THEN
        INSERT INTO prediction_stats_change (changed_from, changed_to) VALUES (since, since + INTERVAL '1 minute');
        PERFORM set_config('predlog.noted', since::text, true);
    END IF;
    RETURN NULL;
END
$$
"""

# On the plain engine a delete first subtracted its calls from the bins and then removed those with no calls left. The
# planner took these for a handful, and compared each with each: 5,000 rows took 18 seconds, while writers waited. Bins
# whose calls all go are removed first, and the others diminished.
REMOVED = "SELECT pg_get_functiondef('prediction_log_removed()'::regprocedure)"
SUBTRACT = re.compile(
    r"(    UPDATE prediction_latency_\w+ s\n[^;]*;\n)\n(    DELETE FROM prediction_latency_\w+ s\n[^;]*)s\.calls = 0;\n"
)
REMOVE_FIRST = r"\2s.calls = t.calls;\n\n\1"
REMOVE = re.compile(
    r"(    DELETE FROM prediction_latency_\w+ s\n[^;]*)s\.calls = t\.calls;\n\n"
    r"(    UPDATE prediction_latency_\w+ s\n[^;]*;\n)"
)
SUBTRACT_FIRST = r"\2\n\1s.calls = 0;\n"


def _rewrite_removal(pattern: re.Pattern[str], replacement: str) -> None:
    definition, times = pattern.subn(replacement, op.get_bind().exec_driver_sql(REMOVED).scalar_one())
    assert times == 3, "prediction_log_removed() is not as this revision knows it"
    op.get_bind().exec_driver_sql(definition.replace("%", "%%"))


def upgrade() -> None:
    for statement in (TABLES, TRIGGER, FILL, UNUSED, TIDY):
        op.execute(statement)
    if chosen(op.get_bind()) is StorageEngine.TIMESCALE:
        op.execute(ROW_REMOVED)
        op.execute(JOB)
    else:
        _rewrite_removal(SUBTRACT, REMOVE_FIRST)


def downgrade() -> None:
    if chosen(op.get_bind()) is StorageEngine.TIMESCALE:
        op.execute(NO_JOB)
        op.execute(ROW_REMOVED_BEFORE)
    else:
        _rewrite_removal(REMOVE, SUBTRACT_FIRST)
    op.execute("DROP PROCEDURE prediction_model_tidy(text[])")
    op.execute("DROP FUNCTION prediction_model_unused(text[])")
    op.execute("DROP TRIGGER prediction_log_named ON prediction_log")
    op.execute("DROP FUNCTION prediction_log_named()")
    op.execute("DROP TABLE prediction_model_allowance")
    op.execute("DROP TABLE prediction_model")
