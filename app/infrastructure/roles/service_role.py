"""The role that requests are answered with: it logs, reads and deletes calls, and changes nothing else.

The aggregates and the notes of what changed are kept by triggers, which act with their owner's rights.
"""

from __future__ import annotations

from sqlalchemy import Engine

from app.infrastructure.roles import login_role, rights

ROLE = rights.SERVICE
NO_LIMIT = -1


def create(engine: Engine, password: str) -> None:
    """Create the role, or give the one that exists this password and exactly its rights. Raises RoleError."""
    with login_role.made(engine, ROLE, password, connections=NO_LIMIT, settings={}):
        pass
