"""The role that answers requests: it logs, reads and deletes predictions, and can neither make keys nor migrate.

Triggers keep the aggregates and the invalidations, with the rights of their owner.
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
