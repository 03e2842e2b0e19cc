"""Changes of PostgreSQL's catalogue, which another session may change at the same moment."""

from __future__ import annotations

from collections.abc import Callable

from psycopg2 import Error, errors
from psycopg2.extensions import cursor

ATTEMPTS = 5
CHANGED_MEANWHILE = ("tuple concurrently updated", "tuple concurrently deleted")


def change(cursor: cursor, statements: Callable[[], None]) -> None:
    """Run `statements` in the cursor's transaction, and again if another session made the same change meanwhile.

    PostgreSQL waits for the other session and then ends the statement with an error: for example if two replicas start
    at once and renew the same role, or if TimescaleDB makes a chunk of a table whose rights change. Raises that error
    if it comes in ATTEMPTS attempts in turn.
    """
    for attempt in range(1, ATTEMPTS + 1):
        cursor.execute("SAVEPOINT change")
        try:
            statements()
        except Error as error:
            if attempt == ATTEMPTS or not _is_made_meanwhile(error):
                raise
            cursor.execute("ROLLBACK TO SAVEPOINT change")
        else:
            cursor.execute("RELEASE SAVEPOINT change")
            return


def _is_made_meanwhile(error: Error) -> bool:
    if isinstance(error, (errors.DuplicateObject, errors.UniqueViolation)):
        return True
    return isinstance(error, errors.InternalError_) and error.diag.message_primary in CHANGED_MEANWHILE
