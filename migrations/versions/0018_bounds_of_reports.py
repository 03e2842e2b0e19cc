"""Bounds of what clients report as dropped, and a tidying of names that the service may call

Revision ID: 0018
Revises: 0017
Create Date: 2026-11-30

One request could report no more than a minute can hold, but many requests together could report anything. Now a trigger
reduces new reports until a minute of a model has at most 60,000,000 dropped predictions for each reason, an hour 60
times as many and a day 24 times as many as an hour. It reduces the reports themselves: so they always add up to what
the rollups say. A report of which nothing is left is kept with a count of 0, or it would be new when it is sent again.
What was reported before this revision stays.

A purge takes names without predictions out of prediction_model. The procedure that did so commits, so it cannot have
its owner's rights, and the service's role could not use it. The part that needs the owner's rights is a function now.
"""

from __future__ import annotations

from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

# So many predictions, of one model and for one reason, may be dropped in a bucket of each level.
MAX_MINUTE = 60_000_000
MAX_DROPPED = {"minute": MAX_MINUTE, "hour": 60 * MAX_MINUTE, "day": 24 * 60 * MAX_MINUTE}

COUNT_FROM = """
ALTER TABLE prediction_loss
    DROP CONSTRAINT prediction_loss_count,
    ADD CONSTRAINT prediction_loss_count CHECK (count >= {least})
"""

# Two transactions cannot both think that there is room: the trigger that runs before this one has added the reports to
# the rollups, and locks a bucket's row until the end. The triggers of the UPDATE take what it cuts out of the rollups,
# so the hours are looked at after the minutes.
REDUCE = """
CREATE FUNCTION prediction_loss_bounded() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    {steps}
    RETURN NULL;
END
$$;

CREATE TRIGGER prediction_loss_bounded AFTER INSERT ON prediction_loss
REFERENCING NEW TABLE AS touched FOR EACH STATEMENT EXECUTE FUNCTION prediction_loss_bounded()
"""
# A bucket has so much too much; each of its new reports gives of that what those before it could not.
REDUCE_LEVEL = """
    UPDATE prediction_loss l
    SET    count = l.count - least(l.count, cut.surplus - cut.given)
    FROM  (SELECT n.id, n.model_name, s.dropped - {most} AS surplus,
                  sum(n.count) OVER (PARTITION BY s.model_name, s.bucket, s.reason ORDER BY n.id) - n.count AS given
           FROM   touched t
           JOIN   prediction_loss n ON n.id = t.id AND n.model_name = t.model_name
           JOIN   prediction_dropped_{level} s
                  ON s.model_name = n.model_name AND s.bucket = date_trunc('{level}', n.timestamp, 'UTC')
                 AND s.reason = n.reason
           WHERE  s.dropped > {most}) AS cut
    WHERE  l.id = cut.id AND l.model_name = cut.model_name AND l.count > 0 AND cut.given < cut.surplus;
"""

# A name that is taken out while somebody logs its next prediction would be missing: so the function looks behind a lock
# that writers do not hold. ONLY: writers lock the hypertable itself.
REMOVE_UNUSED = """
CREATE FUNCTION prediction_model_remove_unused(among text[]) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    gone bigint;
BEGIN
    PERFORM set_config('lock_timeout', '250ms', true);
    LOCK TABLE ONLY prediction_log IN SHARE MODE;
    DELETE FROM prediction_model m
    USING  prediction_model_unused(among) u
    WHERE  (m.model_name, m.model_version) = (u.model_name, u.model_version);
    GET DIAGNOSTICS gone = ROW_COUNT;
    RETURN gone;
EXCEPTION WHEN lock_not_available THEN
    RETURN 0;  -- a long write is under way: other writers must not wait for us, the daily run takes the names out
END
$$
"""
TIDY = """
CREATE OR REPLACE PROCEDURE prediction_model_tidy(among text[]) LANGUAGE plpgsql AS $$
DECLARE
    names  text[] := ARRAY(SELECT DISTINCT model_name FROM prediction_model_unused(among));
    place  integer := 1;
BEGIN
    DELETE FROM prediction_model_allowance WHERE tat < clock_timestamp();
    COMMIT;
    WHILE place <= cardinality(names) LOOP
        PERFORM prediction_model_remove_unused(names[place : place + 499]);
        COMMIT;
        place := place + 500;
    END LOOP;
END
$$
"""
TIDY_BEFORE = """
CREATE OR REPLACE PROCEDURE prediction_model_tidy(among text[]) LANGUAGE plpgsql AS $$
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
FUNCTIONS = ("prediction_loss_bounded()", "prediction_model_remove_unused(text[])")


def upgrade() -> None:
    steps = "".join(REDUCE_LEVEL.format(level=level, most=most) for level, most in MAX_DROPPED.items()).strip()
    for statement in (COUNT_FROM.format(least=0), REDUCE.format(steps=steps), REMOVE_UNUSED, TIDY):
        op.execute(statement)
    for function in FUNCTIONS:
        op.execute(WITH_OWNERS_RIGHTS.format(function=function))


def downgrade() -> None:
    op.execute(TIDY_BEFORE)
    op.execute("DROP FUNCTION prediction_model_remove_unused(text[])")
    op.execute("DROP TRIGGER prediction_loss_bounded ON prediction_loss")
    op.execute("DROP FUNCTION prediction_loss_bounded()")
    op.execute("DELETE FROM prediction_loss WHERE count = 0")
    op.execute(COUNT_FROM.format(least=1))
