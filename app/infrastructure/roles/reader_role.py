"""The role that Grafana reads with: it may log in and select from the log and its aggregates, and nothing else.

Grafana sends whatever SQL its viewers ask it to send, so these rights are all that protects the database from them.
What a role can lift itself, its time limits, `reader_limits` enforces from outside.
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

    Returns what it could not be kept from, in sentences. PostgreSQL gives everyone the right to take advisory locks, to
    make temporary tables and large objects, and more: here that is taken from PUBLIC, or the reader would have it, too.
    """
    role = Identifier(ROLE)
    left = []
    with login_role.made(engine, ROLE, password, connections=CONNECTIONS, settings=SETTINGS) as cursor:
        limit = SQL("ALTER ROLE {} SET temp_file_limit = {}").format(role, Literal(TEMP_FILES))
        if not login_role.attempt(cursor, limit):
            left.append("temp_file_limit, without which its queries may fill the disk")
        # The owner ends its sessions that take too long, which only a member of the role may do.
        if not login_role.attempt(cursor, SQL("GRANT {} TO CURRENT_USER").format(role)):
            left.append("the right to end its sessions: GRANT the role to the owner of prediction_log")
        if functions := rights.still_public(cursor):
            left.append(f"EXECUTE on {', '.join(functions)} and their like, still granted to PUBLIC")
        if databases := rights.other_databases(cursor):
            left.append(f"CONNECT on the databases {', '.join(databases)}, still granted to PUBLIC")
    return left
