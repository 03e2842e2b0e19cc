"""Keys that expire, are renewed and tell when they were used; keys that read are bound to models, too

Revision ID: 0017
Revises: 0016
Create Date: 2026-11-25
"""

from __future__ import annotations

from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

COLUMNS = """
ALTER TABLE api_key
    ADD expires_at      timestamptz,
    ADD last_used_at    timestamptz,
    ADD previous_hash   bytea,
    ADD previous_until  timestamptz,
    ADD CONSTRAINT api_key_previous CHECK
        ((previous_hash IS NULL) = (previous_until IS NULL) AND octet_length(previous_hash) = 32),
    ADD CONSTRAINT api_key_hash_once UNIQUE (hash)
"""
BOUND = """
ALTER TABLE api_key DROP CONSTRAINT api_key_model_names;
ALTER TABLE api_key ADD CONSTRAINT api_key_model_names
    CHECK (model_names IS NULL OR scope {scopes} AND cardinality(model_names) > 0)
"""
# Before this revision nothing knows that a key is bound or ends: such a key would do more than it was made for.
END_WHAT_WAS_LIMITED = """
UPDATE api_key
SET    revoked_at = coalesce(revoked_at, now()), model_names = CASE WHEN scope = 'write' THEN model_names END
WHERE  expires_at IS NOT NULL OR scope = 'read' AND model_names IS NOT NULL
"""
NO_COLUMNS = """
ALTER TABLE api_key
    DROP CONSTRAINT api_key_hash_once,
    DROP CONSTRAINT api_key_previous,
    DROP expires_at,
    DROP last_used_at,
    DROP previous_hash,
    DROP previous_until
"""


def upgrade() -> None:
    op.execute(COLUMNS)
    op.execute(BOUND.format(scopes="IN ('write', 'read')"))


def downgrade() -> None:
    op.execute(END_WHAT_WAS_LIMITED)
    op.execute(BOUND.format(scopes="= 'write'"))
    op.execute(NO_COLUMNS)
