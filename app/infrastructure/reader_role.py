"""The role that Grafana reads with: it may log in and select from the log and its aggregates, and nothing else.

Grafana sends whatever SQL the editor of a panel writes, so these rights are all that protects the database from it.
"""

from __future__ import annotations

from typing import cast

import psycopg2.extensions
from psycopg2 import errors
from psycopg2.extensions import cursor, encrypt_password
from psycopg2.sql import SQL, Identifier, Literal
from sqlalchemy import Engine

ROLE = "predlog_reader"
SHORTEST_PASSWORD = 12

# The log as a whole: TimescaleDB cannot grant single columns of a table that is in the columnstore.
READABLE = (
    "prediction_log",
    *(
        f"prediction_{family}_{level}"
        for family in ("stats", "latency", "dropped")
        for level in ("minute", "hour", "day")
    ),
    "prediction_stats_state",
    "prediction_stats_change",
    "prediction_loss",
)
SETTINGS = {
    "default_transaction_read_only": "on",
    "statement_timeout": "30s",
    "idle_in_transaction_session_timeout": "60s",
    "timezone": "UTC",
}

TOO_POWERFUL = """
SELECT rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls
       OR EXISTS (SELECT FROM pg_auth_members WHERE member = pg_roles.oid)
FROM   pg_roles
WHERE  rolname = %s
"""

WHERE_WE_ARE = """
SELECT current_database(),
       current_schema(),
       has_database_privilege(%(role)s, current_database(), 'CONNECT'),
       (SELECT coalesce(array_agg(oid::regprocedure::text), '{}')
        FROM   pg_proc
        WHERE  pronamespace = current_schema()::regnamespace AND prokind = 'p' AND proname LIKE 'prediction%%')
"""


class ReaderRoleError(Exception):
    """The role cannot be made; the text says why and what to do."""


def create(engine: Engine, password: str) -> None:
    """Create the role, or give the one that exists this password and exactly these rights. Raises ReaderRoleError.

    PostgreSQL gives everyone the right to call procedures and, before version 15, to create tables; here both are
    taken from PUBLIC, or the reader would have them too. The owner keeps them.
    """
    if len(password) < SHORTEST_PASSWORD:
        raise ReaderRoleError(f"The password of {ROLE} must have at least {SHORTEST_PASSWORD} characters.")
    pooled = engine.raw_connection()
    connection = cast("psycopg2.extensions.connection", pooled.driver_connection)
    try:
        with connection, connection.cursor() as cursor:
            # The password itself never leaves this process: what the server gets, and may log, is a verifier.
            verifier = encrypt_password(password, ROLE, connection, "scram-sha-256")
            _create_or_alter(cursor, verifier)
            _grant(cursor)
    except errors.UndefinedTable:
        raise ReaderRoleError("The database is not migrated: run `flask --app wsgi db upgrade` first.") from None
    except errors.InsufficientPrivilege as error:
        reason = str(error.diag.message_primary)
        raise ReaderRoleError(f"The role of DATABASE_URL may not do this ({reason}): it needs CREATEROLE.") from None
    finally:
        pooled.close()


def _create_or_alter(cursor: cursor, verifier: str) -> None:
    cursor.execute(TOO_POWERFUL, [ROLE])
    existing = cursor.fetchone()
    if existing is None:
        cursor.execute(SQL("CREATE ROLE {}").format(Identifier(ROLE)))
    elif existing[0]:
        raise ReaderRoleError(
            f"A role {ROLE} exists that may do more than read, or is a member of other roles: drop it first."
        )
    cursor.execute(
        SQL("ALTER ROLE {} LOGIN CONNECTION LIMIT 20 PASSWORD {}").format(Identifier(ROLE), Literal(verifier))
    )
    for name, value in SETTINGS.items():
        cursor.execute(SQL("ALTER ROLE {} SET {} = {}").format(Identifier(ROLE), Identifier(name), Literal(value)))


def _grant(cursor: cursor) -> None:
    """Take everything, then give what is listed: rights on tables that come later are never implied."""
    cursor.execute(WHERE_WE_ARE, {"role": ROLE})
    database, schema, may_connect, procedures = cursor.fetchone() or ()
    parts = {
        "role": Identifier(ROLE),
        "database": Identifier(database),
        "schema": Identifier(schema),
        "tables": SQL(", ").join(map(Identifier, READABLE)),
    }
    statements = [
        "REVOKE CREATE ON SCHEMA {schema} FROM PUBLIC",
        "REVOKE ALL ON ALL TABLES IN SCHEMA {schema} FROM {role}",
        "GRANT USAGE ON SCHEMA {schema} TO {role}",
        "GRANT SELECT ON {tables} TO {role}",
        *(f"REVOKE EXECUTE ON PROCEDURE {procedure} FROM PUBLIC" for procedure in procedures),
    ]
    if not may_connect:
        statements.append("GRANT CONNECT ON DATABASE {database} TO {role}")
    for statement in statements:
        cursor.execute(SQL(statement).format(**parts))
