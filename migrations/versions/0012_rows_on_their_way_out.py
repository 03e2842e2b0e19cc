"""Rows behind the retention edge cannot be deleted one by one

Revision ID: 0012
Revises: 0011
Create Date: 2026-11-23

On the plain engine retention deletes rows in pieces, and they stay in the rollups. Whoever deleted one of those that
were still there made their minute, hour and day be counted anew, from what was left. Now they are as good as gone: such
a delete finds nothing. On TimescaleDB chunks go at once, and a delete behind the edge changes no aggregate.
"""

from __future__ import annotations

from alembic import op

from app.infrastructure.maintenance.engines import StorageEngine, chosen

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

GONE = """
CREATE FUNCTION prediction_log_gone() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF old.timestamp < (SELECT raw_from FROM prediction_stats_state) THEN
        RETURN NULL;
    END IF;
    RETURN old;
END
$$;

CREATE TRIGGER prediction_log_gone BEFORE DELETE ON prediction_log FOR EACH ROW
WHEN (current_setting('predlog.retention', true) IS DISTINCT FROM 'on') EXECUTE FUNCTION prediction_log_gone()
"""


def upgrade() -> None:
    if chosen(op.get_bind()) is StorageEngine.PLAIN:
        op.execute(GONE)


def downgrade() -> None:
    if chosen(op.get_bind()) is StorageEngine.PLAIN:
        op.execute("DROP TRIGGER prediction_log_gone ON prediction_log")
        op.execute("DROP FUNCTION prediction_log_gone()")
