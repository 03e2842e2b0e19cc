"""Statements that may end in a deadlock with the database's own jobs, as those that move chunks do."""

from __future__ import annotations

from collections.abc import Callable

from psycopg2.errors import DeadlockDetected
from sqlalchemy.exc import OperationalError

MAX_ATTEMPTS = 20


def again_after_deadlocks(run: Callable[[], object]) -> None:
    """Do it, again if PostgreSQL has cancelled it for the sake of a job, which then goes on."""
    for left in reversed(range(MAX_ATTEMPTS)):
        try:
            run()
            return
        except OperationalError as error:
            if not (left and isinstance(error.orig, DeadlockDetected)):
                raise
