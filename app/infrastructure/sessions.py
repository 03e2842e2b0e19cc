"""Settings that hold in every statement, also behind a pooler such as PgBouncer in transaction mode.

There each transaction may get another connection to the server, so what a session sets or locks is left to whoever
comes next. A pooler is known by its cancellation keys, which are its own: they do not name the server's process.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from psycopg2.extensions import TRANSACTION_STATUS_IDLE
from psycopg2.extensions import connection as DriverConnection
from psycopg2.extensions import cursor as Cursor
from sqlalchemy import Connection, Engine, event

from app.domain.errors import PredlogError

POOLED = "predlog.pooled"
TIMEOUT_MS = "predlog_timeout_ms"


class BehindPooler(PredlogError):
    """This needs a session of the server's own."""

    def __init__(self) -> None:
        super().__init__(
            "DATABASE_URL leads to a connection pooler, which gives every transaction another session: migrations and "
            "maintenance need one of their own. Set DATABASE_DIRECT_URL to the address of the PostgreSQL server itself."
        )


def keep(engine: Engine, settings: Mapping[str, str]) -> None:
    """Have these settings hold on all connections of the engine, which is in autocommit.

    A session of our own is told once. Through a pooler they go along with each statement that begins a transaction, in
    the same message, and end with it: no round trip, and nothing is left for the next client.
    """
    for_session = "".join(f"SET {name} = '{value}'; " for name, value in settings.items())
    for_transaction = for_session.replace("SET ", "SET LOCAL ")

    @event.listens_for(engine, "connect")
    def begin(connection: DriverConnection, record: Any) -> None:
        record.info[POOLED] = is_pooled(connection)
        if settings and not record.info[POOLED]:
            with connection.cursor() as cursor:
                cursor.execute(for_session)

    @event.listens_for(engine, "before_cursor_execute", retval=True)
    def accompany(
        connection: Connection, cursor: Cursor, statement: str, parameters: Any, context: Any, executemany: bool
    ) -> tuple[str, Any]:
        timeout_ms = connection.get_execution_options().get(TIMEOUT_MS)
        if timeout_ms is not None:
            statement = f"SET LOCAL statement_timeout = {timeout_ms:d}; {statement}"
        if connection.info[POOLED] and cursor.connection.get_transaction_status() == TRANSACTION_STATUS_IDLE:
            statement = for_transaction + statement
        return statement, parameters


def limit(connection: Connection, timeout_ms: int) -> None:
    """Give each statement that the connection sends from now on so many milliseconds, until it is given back.

    The limit goes along in the same message, which is a transaction of its own, so that nothing is left of it.
    """
    connection.execution_options(**{TIMEOUT_MS: timeout_ms})


def refuse_pooler(connection: Connection) -> None:
    """Raise BehindPooler where the connection may be another one after each transaction."""
    if is_pooled(cast(DriverConnection, connection.connection.driver_connection)):
        raise BehindPooler


def is_pooled(connection: DriverConnection) -> bool:
    """Whether there is a pooler between us and the server's process; a server without processes calls its own 0."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        (process,) = cursor.fetchone() or (0,)
    return process not in (0, connection.get_backend_pid())
