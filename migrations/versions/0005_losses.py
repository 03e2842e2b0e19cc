"""What clients had to throw away

Revision ID: 0005
Revises: 0004
Create Date: 2026-11-23
"""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

TABLE = """
CREATE TABLE prediction_loss (
    id           uuid         CONSTRAINT prediction_loss_pkey PRIMARY KEY,
    timestamp    timestamptz  NOT NULL,
    model_name   text         NOT NULL,
    reason       text         NOT NULL,
    count        bigint       NOT NULL CONSTRAINT prediction_loss_count CHECK (count > 0),
    reported_at  timestamptz  NOT NULL DEFAULT now()
);

CREATE INDEX prediction_loss_time ON prediction_loss (timestamp)
"""


def upgrade() -> None:
    op.execute(TABLE)


def downgrade() -> None:
    op.execute("DROP TABLE prediction_loss")
