"""Requests and responses that wait for each other

Revision ID: 7_halves_of_calls
Revises: 6_alerts
Create Date: 2026-11-30
"""

from __future__ import annotations

from alembic import op

revision = "7_halves_of_calls"
down_revision = "6_alerts"
branch_labels = None
depends_on = None

# A complete prediction stays as long as an incomplete one, so that a half that comes again finds it.
TABLE = """
CREATE TABLE prediction_half (
    request_id     uuid PRIMARY KEY,
    model_name     text NOT NULL,
    model_version  text NOT NULL,
    requested_at   timestamptz,
    responded_at   timestamptz,
    metadata       json,
    received_at    timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT prediction_half_side CHECK (requested_at IS NOT NULL OR responded_at IS NOT NULL)
);
CREATE INDEX prediction_half_received ON prediction_half (received_at)
"""


def upgrade() -> None:
    op.execute(TABLE)


def downgrade() -> None:
    op.execute("DROP TABLE prediction_half")
