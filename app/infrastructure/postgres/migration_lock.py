"""One session migrates at a time: two replicas that start at once, for example, and the second finds nothing to do."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from psycopg2 import errors
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

# Every role could take an advisory lock, so the session that migrates is a row of a table. The row of an ended session
# is ignored.
LOCK_TABLE = "CREATE TABLE IF NOT EXISTS alembic_version_lock (pid integer, since timestamptz)"
LOCK_OUT = "LOCK TABLE alembic_version_lock IN EXCLUSIVE MODE"
FORGET_THE_GONE = """
DELETE FROM alembic_version_lock l
WHERE  pid = pg_backend_pid()
   OR  NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.pid = l.pid AND coalesce(a.backend_start = l.since, true))
"""
HOLD = """
INSERT INTO alembic_version_lock
SELECT pg_backend_pid(), (SELECT backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid())
WHERE  NOT EXISTS (SELECT FROM alembic_version_lock)
"""
RELEASE = "DELETE FROM alembic_version_lock WHERE pid = pg_backend_pid()"
LOOK_AGAIN_AFTER_S = 0.2
# Two sessions have made the table at the same moment.
MADE_MEANWHILE = (errors.UniqueViolation, errors.DuplicateTable)


@contextmanager
def alone(connection: Connection) -> Iterator[None]:
    """Wait for another session that migrates, and keep others waiting during the block."""
    while not _hold(connection):
        time.sleep(LOOK_AGAIN_AFTER_S)
    try:
        yield
    finally:
        connection.rollback()
        connection.execute(text(RELEASE))
        connection.execute(text("RESET statement_timeout"))
        connection.commit()


def _hold(connection: Connection) -> bool:
    try:
        for statement in (LOCK_TABLE, LOCK_OUT, FORGET_THE_GONE):
            connection.execute(text(statement))
        held = connection.execute(text(HOLD)).rowcount == 1
        connection.commit()
        return held
    except DBAPIError as error:
        connection.rollback()
        if isinstance(error.orig, MADE_MEANWHILE):
            return False
        if isinstance(error.orig, errors.InsufficientPrivilege):
            raise SystemExit(
                "This role may not migrate: set DATABASE_DIRECT_URL to the address of the database with the role that "
                "owns it."
            ) from None
        raise
