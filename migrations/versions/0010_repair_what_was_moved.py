"""Repair a day again where rows were moved in it meanwhile

Revision ID: 0010
Revises: 0009
Create Date: 2026-11-23

A delete in the columnstore first puts the other rows of its batch back beside it. A refresh that was planned before
that and run after it looks for them in the columnstore alone: it takes them for gone, and nothing would say that they
are missing from the aggregates, for what is noted is the minute of the deleted row. So a day that has rows in the
columnstore keeps its notes, and is read raw, until a refresh of it was disturbed by nobody.
"""

from __future__ import annotations

from alembic import op

from app.infrastructure.engines import StorageEngine, chosen

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

REPAIR = """
CREATE OR REPLACE PROCEDURE prediction_stats_repair(INOUT hours_left bigint) LANGUAGE plpgsql AS $$
DECLARE
    state     prediction_stats_state;
    midnight  timestamptz;
    since     timestamptz;
    until     timestamptz;
    seen      bigint[];
BEGIN
    SELECT * INTO state FROM prediction_stats_state;
    DELETE FROM prediction_stats_change WHERE changed_to <= state.raw_from;
    SELECT min(changed_from) INTO since FROM prediction_stats_change WHERE changed_to <= state.materialized_to;
    midnight := time_bucket('1 day', since);
    SELECT array_agg(id), max(changed_to) INTO seen, until
    FROM   prediction_stats_change
    WHERE  changed_to <= state.materialized_to AND changed_from < midnight + INTERVAL '24 hours';
    COMMIT;
    IF seen IS NOT NULL THEN
        CALL prediction_stats_refresh(since, until, state.materialized_to);
        DELETE FROM prediction_stats_change
        WHERE  id = ANY (seen) AND NOT {disturbed};
        UPDATE prediction_stats_state SET generation = generation + 1;
        COMMIT;
    END IF;
    SELECT count(DISTINCT time_bucket('1 hour', changed_from)) INTO hours_left
    FROM   prediction_stats_change
    WHERE  changed_to <= state.materialized_to;
END
$$
"""

# One look at both, so that no change comes in between.
DISTURBED = """(
            EXISTS (SELECT FROM prediction_stats_change AS later
                    WHERE  later.id <> ALL (seen)
                    AND    later.changed_to > midnight AND later.changed_from < midnight + INTERVAL '24 hours')
            AND EXISTS (SELECT FROM timescaledb_information.chunks
                        WHERE  hypertable_name = 'prediction_log' AND is_compressed
                        AND    range_end > midnight AND range_start < midnight + INTERVAL '24 hours'))"""


def upgrade() -> None:
    if chosen(op.get_bind()) is StorageEngine.TIMESCALE:
        op.execute(REPAIR.format(disturbed=DISTURBED))


def downgrade() -> None:
    if chosen(op.get_bind()) is StorageEngine.TIMESCALE:
        op.execute(REPAIR.format(disturbed="false"))
