"""Settings that hold in every statement, whatever the server, the database, the role or the environment say.

Behind a pooler such as PgBouncer in transaction mode each transaction may get another connection to the server, so what
a session sets or locks is left to whoever comes next. A pooler is known by its cancellation keys, which are its own:
they do not name the server's process.
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

# What answers depend on. Not here: standard_conforming_strings, because the driver quotes as it was when it connected;
# lc_*, because nothing is formatted or sorted by it; default_transaction_read_only, because that is how an operator or
# a cloud protects a server that must not be written to.
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
    """This needs a session of the server's own."""

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
    """Have these settings and those of PINNED hold on all connections of the engine, which is in autocommit.

    A session of our own is told once. Through a pooler they go along with each statement that begins a transaction, in
    the same message, and end with it: no round trip, and nothing is left for the next client.
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
    """Give each statement that the connection sends from now on so many milliseconds, until it is given back.

    The limit goes along in the same message, which is a transaction of its own, so that nothing is left of it.
    """
    connection.execution_options(**{TIMEOUT_MS: timeout_ms})


def pin(connection: DriverConnection, settings: Mapping[str, str] | None = None) -> str:
    """Have PINNED and these settings hold; returns what has to go before each transaction of a pooler's connection.

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
        # What is acknowledged is on disk. What asks for more than that (remote_apply) is left.
        pinned["synchronous_commit"] = "on" if durability == "off" else durability
        if triggers != "origin":  # without its triggers the plain engine would count nothing; only a superuser may
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
    """Take the search path out of an address: as a setting it holds behind a pooler, too, which takes no options."""
    options = url.query.get("options", "")
    match = _SEARCH_PATH.search(options) if isinstance(options, str) else None
    if match is None:
        return url, {}
    rest = (_SEARCH_PATH.sub("", str(options))).strip()
    names = [name if name.startswith('"') else f'"{name.lower()}"' for name in match[1].split(",") if name]
    url = url.difference_update_query(["options"])
    return url.update_query_dict({"options": rest}) if rest else url, {"search_path": ", ".join(names)}


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
