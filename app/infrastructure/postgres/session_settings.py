"""Settings that hold in every statement and override the server, the database, the role and the environment.

Behind a pooler such as PgBouncer in transaction mode each transaction may get another connection to the server, so the
next client would inherit the settings and locks of a session. A pooler is detected by its cancellation keys: they are
its own, and do not name the server's process.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

from psycopg2.extensions import TRANSACTION_STATUS_IDLE
from psycopg2.extensions import connection as DriverConnection
from psycopg2.extensions import cursor as Cursor
from sqlalchemy import URL, Connection, Engine, event

from app.domain.errors import PredlogError, StorageUnavailable

PREFIX = "predlog.prefix"
TIMEOUT_MS = "predlog_timeout_ms"
ENCODING = "UTF8"

# Settings that answers depend on. Left out are standard_conforming_strings, because the driver quotes by the value that
# it had at the connection; lc_*, because no statement formats or sorts by them; and default_transaction_read_only,
# because operators and clouds protect servers from writes with it.
PINNED = {
    "datestyle": "ISO, MDY",
    "intervalstyle": "postgres",
    "timezone": "UTC",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "array_nulls": "on",
    "transform_null_equals": "off",
    # A policy that would hide rows from a count makes it fail instead.
    "row_security": "off",
}
ISOLATION = "read committed"
SESSION = """
SELECT pg_backend_pid(), current_setting('server_encoding'), current_setting('synchronous_commit'),
       current_setting('session_replication_role')
"""
_SEARCH_PATH = re.compile(r"""\s*(?:-c\s*|--)search_path=((?:"[^"%]*"|[^\s"\\%])+)""")


class BehindPooler(PredlogError):
    """The work needs a session that no pooler shares."""

    def __init__(self) -> None:
        super().__init__(
            "DATABASE_URL leads to a connection pooler, which gives every transaction another session: migrations and "
            "maintenance need one of their own. Set DATABASE_DIRECT_URL to the address of the PostgreSQL server itself."
        )


class WrongEncoding(StorageUnavailable):
    """The database cannot keep every text."""

    def __init__(self, encoding: str) -> None:
        super().__init__(
            f"The database is encoded as {encoding}, which cannot keep every text: make it with ENCODING 'UTF8'."
        )


def keep(engine: Engine, settings: Mapping[str, str]) -> None:
    """Apply these settings and PINNED to all connections of the engine, which is in autocommit.

    A direct connection is set once. Through a pooler the settings go with each statement that begins a transaction, in
    the same message, and end with the transaction: that needs no round trip, and leaves nothing for the next client.
    """

    @event.listens_for(engine, "connect")
    def begin(connection: DriverConnection, record: Any) -> None:
        record.info[PREFIX] = pin(connection, settings)

    @event.listens_for(engine, "before_cursor_execute", retval=True)
    def accompany(
        connection: Connection, cursor: Cursor, statement: str, parameters: Any, context: Any, executemany: bool
    ) -> tuple[str, Any]:
        timeout_ms = connection.get_execution_options().get(TIMEOUT_MS)
        if timeout_ms is not None:
            statement = f"SET LOCAL statement_timeout = {timeout_ms:d}; {statement}"
        prefix = connection.info[PREFIX]
        if prefix and cursor.connection.get_transaction_status() == TRANSACTION_STATUS_IDLE:
            statement = prefix + statement
        return statement, parameters


def limit(connection: Connection, timeout_ms: int) -> None:
    """Set the timeout in milliseconds of each later statement on the connection, until it is given back.

    The timeout goes with each statement in the same message, which is a transaction of its own, so it ends with it.
    """
    connection.execution_options(**{TIMEOUT_MS: timeout_ms})


def pin(connection: DriverConnection, settings: Mapping[str, str] | None = None) -> str:
    """Apply PINNED and these settings; return the SQL to send before each transaction through a pooler.

    Raises WrongEncoding.
    """
    connection.set_client_encoding(ENCODING)  # a pooler keeps it for each of its clients
    with connection.cursor() as cursor:
        cursor.execute(SESSION)
        process, encoding, durability, triggers = cursor.fetchone() or ()
        if encoding != ENCODING:
            connection.close()
            raise WrongEncoding(encoding)
        pinned = {**PINNED, **(settings or {})}
        # An acknowledged commit must be on disk. A stronger setting (remote_apply) stays.
        pinned["synchronous_commit"] = "on" if durability == "off" else durability
        if triggers != "origin":  # without triggers the plain engine would count nothing; only a superuser may set this
            pinned["session_replication_role"] = "origin"
        if process in (0, connection.get_backend_pid()):
            own = {**pinned, "default_transaction_isolation": ISOLATION, "default_transaction_deferrable": "off"}
            cursor.execute("".join(_set("SET", name, value) for name, value in own.items()))
            return ""
        # First: it may not be set any more after a query.
        return "".join(
            _set("SET LOCAL", name, value) for name, value in {"transaction_isolation": ISOLATION, **pinned}.items()
        )


def _set(command: str, name: str, value: str) -> str:
    # Each name of a search path is quoted already, and the path must not become a single name.
    return f"{command} {name} = {value}; " if name == "search_path" else f"{command} {name} = '{value}'; "


def take_search_path(url: URL) -> tuple[URL, dict[str, str]]:
    """Take the search path out of an address, because a pooler accepts no options; it then holds as a setting."""
    options = url.query.get("options", "")
    match = _SEARCH_PATH.search(options) if isinstance(options, str) else None
    if match is None:
        return url, {}
    rest = (_SEARCH_PATH.sub("", str(options))).strip()
    names = [name if name.startswith('"') else f'"{name.lower()}"' for name in match[1].split(",") if name]
    url = url.difference_update_query(["options"])
    return url.update_query_dict({"options": rest}) if rest else url, {"search_path": ", ".join(names)}


def refuse_pooler(connection: Connection) -> None:
    """Raise BehindPooler if each transaction may get another connection to the server."""
    if is_pooled(cast(DriverConnection, connection.connection.driver_connection)):
        raise BehindPooler


def is_pooled(connection: DriverConnection) -> bool:
    """Return whether a pooler is between this process and the server's; a server without processes has pid 0."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        (process,) = cursor.fetchone() or (0,)
    return process not in (0, connection.get_backend_pid())
