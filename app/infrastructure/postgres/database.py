"""Connections to PostgreSQL, and its errors in the words of the domain."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import Any, TypeVar, cast

from psycopg2 import Error as DriverError
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import ConnectionPoolEntry

from app.domain.errors import (
    BehindRetention,
    DroppedBehindRetention,
    LockTimeout,
    StorageBusy,
    StorageTimeout,
    StorageUnavailable,
)
from app.domain.instants import parse_instant
from app.infrastructure.postgres import session_settings
from app.infrastructure.postgres.pool import MeteredPool
from app.infrastructure.postgres.statement_watchdog import WatchedConnection

T = TypeVar("T")
Row = Sequence[Any]

BEHIND_RETENTION = "PL001"
DROPPED_BEHIND_RETENTION = "PL002"
# Connection lost, too many connections, disk full, shutdown, conflict with recovery.
_LATER = ("08", "53", "57", "40", "58")

DEADLOCK = "40P01"
INSUFFICIENT_PRIVILEGE = "42501"
READ_ONLY = "25006"
# The server has ended this session, or takes no writes any more, as after a failover.
UNUSABLE = (READ_ONLY, "57P01", "57P02", "57P03", "57P04", "57P05")
# A connection younger than this shows the present state of the server: another one would be no better.
FRESH_S = 1.0
SINCE = "predlog.since"
LOCK_NOT_AVAILABLE = "55P03"
QUERY_CANCELED = "57014"
STORAGE_ENGINE = "SELECT engine FROM prediction_stats_state"
# Citus reports some broken connections to its other nodes as internal errors.
INTERNAL_ERROR = "XX000"
NODE_AWAY = re.compile(r"connection|remote node")
# Errors about a table or a column that a later migration makes.
UNDEFINED = ("42P01", "42703")


class NotMigrated(StorageUnavailable):
    """A table or a column is missing."""


class ReadOnly(StorageUnavailable):
    """The server takes no writes: nothing of the statement was done."""


class NotPermitted(StorageUnavailable):
    """The role of this connection may not do this."""


class Deadlock(StorageUnavailable):
    """PostgreSQL cancelled this statement to end a deadlock: it changed nothing, and may be sent again at once."""


class Database:
    """A pool of connections in autocommit: each statement is a transaction, except in a `snapshot`.

    `settings` of PostgreSQL hold in each statement, also behind a pooler. `timeout_s` is how many seconds to wait for a
    server that does not answer at all; None means no limit. Options in the URL override `connect_args`.
    """

    def __init__(
        self,
        url: str,
        settings: Mapping[str, str] | None = None,
        *,
        timeout_s: float | None = None,
        connect_args: Mapping[str, Any] | None = None,
        **pool: Any,
    ) -> None:
        address, search_path = session_settings.take_search_path(make_url(url))
        connect = {
            **{name: value for name, value in (connect_args or {}).items() if name not in address.query},
            **only_to_the_host(address),
            "connection_factory": partial(WatchedConnection, timeout_s=timeout_s),
        }
        self.engine: Engine = create_engine(
            address, isolation_level="AUTOCOMMIT", poolclass=MeteredPool, connect_args=connect, **pool
        )
        session_settings.keep(self.engine, {**(settings or {}), **search_path})
        self._storage_engine = ""
        event.listen(self.engine, "connect", _begun)
        event.listen(self.engine, "handle_error", _throw_away_what_cannot_work)

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """Lend a connection. Raises StorageUnavailable if none becomes free, or if the connection breaks."""
        with storage_errors(), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """Lend a connection in a read-only transaction whose statements all see the same snapshot."""
        with self.transaction("REPEATABLE READ") as connection:
            yield connection

    @contextmanager
    def transaction(self, isolation: str = "READ COMMITTED") -> Iterator[Connection]:
        """Lend a connection in a read-only transaction."""
        with storage_errors(), self.engine.connect() as connection:
            # In SQL, because the driver would switch the session's defaults back and forth with more statements.
            connection.exec_driver_sql(f"BEGIN ISOLATION LEVEL {isolation} READ ONLY")
            try:
                yield connection
            finally:
                if not connection.invalidated:
                    _roll_back(connection)

    @contextmanager
    def write_transaction(self) -> Iterator[Connection]:
        """Lend a connection in a transaction in READ COMMITTED, whatever the database's default; commit it at the end.

        If the block raises, nothing is committed and the connection is closed.
        """
        with self.connection() as connection:
            connection.exec_driver_sql("BEGIN ISOLATION LEVEL READ COMMITTED")
            try:
                yield connection
                connection.exec_driver_sql("COMMIT")
            except BaseException:
                connection.invalidate()
                raise

    @contextmanager
    def maintenance(self) -> Iterator[Connection]:
        """Lend a connection for long work, without the timeouts of requests, and close it afterwards.

        Raises BehindPooler if a pooler would share its session.
        """
        with storage_errors(), self.engine.connect() as connection:
            session_settings.refuse_pooler(connection)
            connection.exec_driver_sql("SET statement_timeout = 0")
            connection.exec_driver_sql("SET lock_timeout = 0")
            cast(WatchedConnection, connection.connection.driver_connection).timeout_s = None
            try:
                yield connection
            finally:
                connection.invalidate()

    def rows(
        self, statement: str, parameters: dict[str, Any] | None = None, timeout_ms: int | None = None
    ) -> list[Row]:
        """Run one statement and return all of its rows; a connection that takes no writes any more is replaced once.

        Raises StorageTimeout after `timeout_ms`.
        """
        return retried(lambda: self._rows(statement, parameters, timeout_ms), ReadOnly)

    def count(self, statement: str, parameters: dict[str, Any]) -> int:
        """Run one statement and return how many rows it wrote, with the same second try."""
        return retried(lambda: self._count(statement, parameters), ReadOnly)

    def read(
        self, statement: str, parameters: dict[str, Any] | None = None, timeout_ms: int | None = None
    ) -> list[Row]:
        """Like `rows` for a statement that may be repeated: a connection that has died meanwhile is replaced once."""
        return retried(lambda: self._rows(statement, parameters, timeout_ms))

    @property
    def storage_engine(self) -> str:
        """The name of the storage engine that the database was migrated to, read once. Raises StorageUnavailable."""
        if not self._storage_engine:
            ((self._storage_engine,),) = self.read(STORAGE_ENGINE)
        return self._storage_engine

    def reconnect(self) -> None:
        """Make new connections for all later statements, because the address may lead to another server now."""
        self.engine.dispose()

    def _rows(self, statement: str, parameters: dict[str, Any] | None, timeout_ms: int | None) -> list[Row]:
        with self.connection() as connection:
            if timeout_ms is not None:
                session_settings.limit(connection, timeout_ms)
            return list(connection.exec_driver_sql(statement, parameters or {}).fetchall())

    def _count(self, statement: str, parameters: dict[str, Any]) -> int:
        with self.connection() as connection:
            return connection.exec_driver_sql(statement, parameters).rowcount


def only_to_the_host(address: URL) -> dict[str, str]:
    """Return connection arguments that keep PGHOSTADDR from replacing the host that the address names."""
    return {"hostaddr": ""} if (address.host or "host" in address.query) and "hostaddr" not in address.query else {}


def _begun(connection: object, record: ConnectionPoolEntry) -> None:
    record.info[SINCE] = time.monotonic()


def _throw_away_what_cannot_work(context: ExceptionContext) -> None:
    """Let SQLAlchemy replace this connection, and all older ones, as if it were broken."""
    code = getattr(context.original_exception, "pgcode", None)
    if code in UNUSABLE and context.connection and not context.connection.invalidated:
        context.is_disconnect |= time.monotonic() - context.connection.info[SINCE] > FRESH_S


def _roll_back(connection: Connection) -> None:
    """Roll back. A replica may cancel even that, and then the pool must not lend the connection in its transaction."""
    try:
        connection.exec_driver_sql("ROLLBACK")
    except DBAPIError:
        connection.invalidate()
        raise


def retried(work: Callable[[], T], after: type[StorageUnavailable] = StorageUnavailable) -> T:
    """Call `work` once more after such an error if its connection was replaced, as each one is after a restart."""
    try:
        return work()
    except after as error:
        if not (isinstance(error.__cause__, DBAPIError) and error.__cause__.connection_invalidated):
            raise
    return work()


def _edge(error: DBAPIError) -> datetime:
    return parse_instant(cast(DriverError, error.orig).diag.message_detail or "")


@contextmanager
def storage_errors() -> Iterator[None]:
    """Translate the driver's errors into the domain's, without their messages."""
    try:
        yield
    except PoolTimeout as error:
        raise StorageBusy("All database connections are in use.") from error
    except DBAPIError as error:
        code = getattr(error.orig, "pgcode", None) or ""
        if code in UNDEFINED:
            raise NotMigrated("The database is not migrated: run `flask --app wsgi db upgrade`.") from error
        if code == READ_ONLY:
            raise ReadOnly("The database is read-only.") from error
        if code == INSUFFICIENT_PRIVILEGE:
            raise NotPermitted(
                "The role of DATABASE_URL may not do this: set DATABASE_DIRECT_URL to the address of the database with "
                "the role that owns it; `flask --app wsgi db upgrade` gives the others their rights."
            ) from error
        if code == DEADLOCK:
            raise Deadlock("The database is busy.") from error
        if code == QUERY_CANCELED:
            raise StorageTimeout("The database is not available.") from error
        if code == LOCK_NOT_AVAILABLE:
            raise LockTimeout("The database is busy.") from error
        if isinstance(error, (OperationalError, InterfaceError)):
            raise StorageUnavailable("The database is not available.") from error
        if code == BEHIND_RETENTION:
            raise BehindRetention(_edge(error)) from error
        if code == DROPPED_BEHIND_RETENTION:
            raise DroppedBehindRetention(_edge(error)) from error
        if code == INTERNAL_ERROR and NODE_AWAY.search(str(error.orig)):
            raise StorageUnavailable("A node of the database is not available.") from error
        if error.connection_invalidated or code.startswith(_LATER):
            raise StorageUnavailable("The database is not available.") from error
        raise
