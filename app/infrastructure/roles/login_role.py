"""Makes a role that may log in, and little else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import cast

import psycopg2.extensions
from psycopg2 import errors
from psycopg2.extensions import cursor, encrypt_password
from psycopg2.sql import SQL, Composable, Identifier, Literal
from sqlalchemy import Engine

from app.domain.predictions import text_problem
from app.infrastructure.postgres.database import storage_errors
from app.infrastructure.roles import catalog, rights

MIN_PASSWORD_LENGTH = 12

TOO_POWERFUL = """
SELECT rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls
       OR EXISTS (SELECT FROM pg_auth_members WHERE member = pg_roles.oid)
FROM   pg_roles
WHERE  rolname = %s
"""
SETTINGS_OF_ITS_OWN = """
SELECT d.datname FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase
WHERE  s.setrole = (SELECT oid FROM pg_roles WHERE rolname = %s)
"""


class RoleError(Exception):
    """The role cannot be created; the text says why and what to do."""


@contextmanager
def made(
    engine: Engine, role: str, password: str, *, connections: int, settings: Mapping[str, str]
) -> Iterator[cursor]:
    """Create the role, or renew the one that exists, with these settings and the rights of `rights`.

    Lends a cursor in the same transaction. A role may change its own password and settings: both are set anew. Raises
    RoleError if the password is short or no text, if the role has more rights than it should or could take them, or if
    this role may not create it, and StorageUnavailable if the database is away.
    """
    if text_problem(password):
        raise RoleError(f"The password of {role} must be UTF-8 text.")
    if len(password) < MIN_PASSWORD_LENGTH:
        raise RoleError(f"The password of {role} must have at least {MIN_PASSWORD_LENGTH} characters.")
    with storage_errors():
        lent = engine.connect()
    connection = cast("psycopg2.extensions.connection", lent.connection.driver_connection)
    try:
        with connection, connection.cursor() as cursor:
            if not rights.is_migrated(cursor):
                raise RoleError("The database is not migrated: run `flask --app wsgi db upgrade` first.")
            # The password itself never leaves this process: the server gets a verifier, which it may log.
            verifier = encrypt_password(password, role, connection, "scram-sha-256")
            catalog.change(cursor, lambda: _create_or_alter(cursor, role, verifier, connections, settings))
            rights.apply(cursor)
            if refusal := rights.may_create(cursor):
                raise RoleError(refusal)
            yield cursor
    except errors.InsufficientPrivilege as error:
        reason = str(error.diag.message_primary)
        raise RoleError(f"The role of DATABASE_URL may not do this ({reason}): it needs CREATEROLE.") from None
    finally:
        lent.close()


def attempt(cursor: cursor, statement: Composable) -> bool:
    """Run a statement that needs special rights, and return whether this role has them."""
    cursor.execute("SAVEPOINT attempt")
    try:
        cursor.execute(statement)
    except errors.InsufficientPrivilege:
        cursor.execute("ROLLBACK TO SAVEPOINT attempt")
        return False
    cursor.execute("RELEASE SAVEPOINT attempt")
    return True


def _create_or_alter(cursor: cursor, role: str, verifier: str, connections: int, settings: Mapping[str, str]) -> None:
    cursor.execute(TOO_POWERFUL, [role])
    existing = cursor.fetchone()
    name = Identifier(role)
    if existing is None:
        cursor.execute(SQL("CREATE ROLE {}").format(name))
    elif existing[0]:
        raise RoleError(
            f"A role {role} exists that may do more than it should, or is a member of others: drop it first."
        )
    cursor.execute(
        SQL("ALTER ROLE {} LOGIN CONNECTION LIMIT {} PASSWORD {}").format(name, Literal(connections), Literal(verifier))
    )
    cursor.execute(SQL("ALTER ROLE {} RESET ALL").format(name))
    cursor.execute(SETTINGS_OF_ITS_OWN, [role])
    for (database,) in cursor.fetchall():
        cursor.execute(SQL("ALTER ROLE {} IN DATABASE {} RESET ALL").format(name, Identifier(database)))
    for setting, value in settings.items():
        cursor.execute(SQL("ALTER ROLE {} SET {} = {}").format(name, Identifier(setting), Literal(value)))
