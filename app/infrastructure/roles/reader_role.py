"""The role that Grafana reads with: it may log in and select from the log and its aggregates, and nothing else.

Grafana sends any SQL that its viewers write, so only these rights protect the database from them. A role can lift its
own timeouts, so `reader_limits` enforces them from outside.
"""

from __future__ import annotations

from psycopg2.sql import SQL, Identifier, Literal
from sqlalchemy import Engine

from app.infrastructure.roles import login_role, rights

ROLE = rights.READER
CONNECTIONS = 20
SETTINGS = {
    "default_transaction_read_only": "on",
    "statement_timeout": "30s",
    "idle_in_transaction_session_timeout": "60s",
    "timezone": "UTC",
}
TEMP_FILES = "1GB"  # of each of its sessions; no role but a superuser can lift this one


def create(engine: Engine, password: str) -> list[str]:
    """Create the role, or give the one that exists this password and exactly these rights. Raises RoleError.

    Returns sentences about the rights that could not be taken away. PostgreSQL gives every role the right to take
    advisory locks, to make temporary tables and large objects, and more. These rights are taken from PUBLIC, because
    the reader would have them, too.
    """
    role = Identifier(ROLE)
    left = []
    with login_role.made(engine, ROLE, password, connections=CONNECTIONS, settings=SETTINGS) as cursor:
        limit = SQL("ALTER ROLE {} SET temp_file_limit = {}").format(role, Literal(TEMP_FILES))
        if not login_role.attempt(cursor, limit):
            left.append("temp_file_limit, without which its queries may fill the disk")
        # The owner becomes a member of the role, because only a member may end its sessions.
        if not login_role.attempt(cursor, SQL("GRANT {} TO CURRENT_USER").format(role)):
            left.append("the right to end its sessions: GRANT the role to the owner of prediction_log")
        if functions := rights.still_public(cursor):
            left.append(f"EXECUTE on {', '.join(functions)} and their like, still granted to PUBLIC")
        if databases := rights.other_databases(cursor):
            left.append(f"CONNECT on the databases {', '.join(databases)}, still granted to PUBLIC")
    return left
