"""The address of a database, written for any PostgreSQL driver, as SQLAlchemy and psycopg2 read it.

This is the one place that reads it: the check at the start, the service, the migrations and the commands all get the
same text. Errors name options and never a value, because the text may hold a password.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote, unquote_plus

from psycopg2 import ProgrammingError
from psycopg2.extensions import make_dsn
from sqlalchemy.engine import URL

DRIVER = "postgresql+psycopg2"
EXPECTED = (
    "is not a URL: expected postgresql://user:password@host:port/database, with @ : / ? # % in the password written as "
    "%40 %3A %2F %3F %23 %25"
)

# A password may have a raw / or a raw ?, but not both: an address without one may have both before a @ in its options.
# A host has no & or =: what has is the rest of the options, after a @ in them.
_URL = re.compile(
    r"(?:jdbc:)?(?P<scheme>\w+)(?:\+\w+)?://"
    r"(?:(?P<user>[^:/?@]*)(?::(?P<password>(?![0-9]+[?])[^/@]*|[^?@]*))?@)?"
    r"(?P<hosts>[^/?@&=]*)(?:/(?P<database>[^?]*))?(?:\?(?P<query>.*))?",
    re.DOTALL | re.ASCII,
)
_HOST = re.compile(r"(?:\[(?P<v6>[^]]+)]|(?P<name>[^:\[\]]*))(?::(?P<port>[0-9]*))?")
_PLAIN_HOST = re.compile(r"[\w.:-]+", re.ASCII)
_OPTION_NAME = re.compile(r"[A-Za-z_]\w{0,40}", re.ASCII)
_SCHEMA = re.compile(r"\w[\w$-]*")

SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
# Values in asyncpg, node-postgres and JDBC. libpq itself reads ssl=true as sslmode=require.
SSL_WORDS = {"true": "require", "1": "require", "on": "require", "no-verify": "require", "false": "disable",
             "0": "disable", "off": "disable"}  # fmt: skip
SSL_FILES = ("sslcert", "sslkey", "sslrootcert", "sslcrl")
# Options of other drivers that libpq has by another name.
SAME = {
    "ssl": "sslmode",
    "application": "application_name",
    "applicationName": "application_name",
    "ApplicationName": "application_name",
    "connectTimeout": "connect_timeout",
    "database": "dbname",
    "username": "user",
    "targetServerType": "target_session_attrs",
    "target_server_type": "target_session_attrs",
}
SERVER_TYPES = {"master": "primary", "secondary": "standby", "slave": "standby", "preferSecondary": "prefer-standby",
                "preferSlave": "prefer-standby"}  # fmt: skip
SCHEMAS = ("schema", "currentSchema", "current_schema", "search_path")
# These options change nothing here: nothing is prepared on the server, and a pooler is detected automatically.
GRANTED = {
    "pgbouncer": ("true", "1"),
    "prepared_statement_cache_size": ("0",),
    "statement_cache_size": ("0",),
    "prepareThreshold": ("0",),
    "prepare_threshold": ("0", "none"),
    "client_encoding": ("utf8", "utf-8", "unicode", "auto"),
    "charset": ("utf8", "utf-8"),
}
INSTEAD = {
    "connection_limit": "POOL_SIZE sets how many connections each worker has",
    "pool_size": "POOL_SIZE sets how many connections each worker has",
    "max_connections": "POOL_SIZE sets how many connections each worker has",
    "max_overflow": "POOL_SIZE sets how many connections each worker has",
    "pool_timeout": "POOL_TIMEOUT_S sets how long to wait for a connection",
    "conn_max_age": "connections are kept and replaced by the service itself",
    "pool_recycle": "connections are kept and replaced by the service itself",
    "statement_timeout": "STATEMENT_TIMEOUT_MS sets it",
    "command_timeout": "STATEMENT_TIMEOUT_MS sets it",
    "socketTimeout": "STATEMENT_TIMEOUT_MS sets how long a statement may take",
    "socket_timeout": "STATEMENT_TIMEOUT_MS sets how long a statement may take",
    "lock_timeout": "LOCK_TIMEOUT_MS sets it",
    "timeout": "connect_timeout sets how long connecting may take, in seconds",
    "sslaccept": "write sslmode=require, or sslmode=verify-full with sslrootcert",
    "sslidentity": "write sslcert and sslkey",
    "pgbouncer": "a pooler is recognised by itself",
    "client_encoding": "the service always uses UTF8",
    "charset": "the service always uses UTF8",
}


class DatabaseUrlError(ValueError):
    """The text is no address of a PostgreSQL database; the message is the rest of a sentence about it."""


def canonical(text: str, *, writes: bool = False) -> str:
    """Return an address, written for any driver, as SQLAlchemy and psycopg2 read it; the function is idempotent.

    `text` is an address for libpq or another driver: one host or several separated by commas, Unix sockets, parts that
    are percent-encoded, options by the names of other drivers. With `writes`, the connection goes to the one of several
    servers that takes writes, unless the text says otherwise. Raises DatabaseUrlError.
    """
    match = _URL.fullmatch(text)
    if match is None:
        raise DatabaseUrlError(EXPECTED)
    if match["scheme"] not in ("postgresql", "postgres"):
        raise DatabaseUrlError("must begin with postgresql://")
    hosts = _hosts(match["hosts"])  # first, because of a password with ? in it the options have the rest
    options = _options(match["query"] or "")
    given = {
        name: _decoded(match[part]) for name, part in
        (("user", "user"), ("password", "password"), ("dbname", "database")) if match[part]
    }  # fmt: skip
    if "host" not in options:
        given |= _lists(hosts)
    return of_parts(given | options, writes=writes)


def of_parts(parts: Mapping[str, str], *, writes: bool = False) -> str:
    """Return libpq's parameters as a URL; `writes` as in `canonical`. Raises DatabaseUrlError."""
    parts = {name: value for name, value in parts.items() if value}
    if writes and "," in parts.get("host", ""):
        parts.setdefault("target_session_attrs", "read-write")
    hosts, ports = parts.pop("host", "").split(","), _ports(parts.pop("port", ""))
    if len(ports) == 1 or not any(ports):
        ports = ports[:1] * len(hosts)
    if len(ports) != len(hosts):
        raise DatabaseUrlError("has another number of ports than of hosts")
    user = parts.pop("user", None)
    # SQLAlchemy writes no password without a user before it.
    url = URL.create(DRIVER, user, parts.pop("password", None) if user else None)
    if len(hosts) == 1 and (not hosts[0] or _PLAIN_HOST.fullmatch(hosts[0])) and not (ports[0] and not hosts[0]):
        url = url.set(host=hosts[0] or None, port=int(ports[0]) if ports[0] else None)
    else:
        parts |= {"host": ",".join(hosts)} if any(hosts) else {}
        parts |= {"port": ",".join(ports)} if any(ports) else {}
    # SQLAlchemy neither encodes nor decodes the name of the database.
    if not re.search(r"[?#%\s]", parts.get("dbname", "")):
        url = url.set(database=parts.pop("dbname", None))
    return url.set(query=parts).render_as_string(hide_password=False)


def _hosts(text: str) -> list[tuple[str, str]]:
    """Return host and port of each server; none if the text is empty."""
    matches = [_HOST.fullmatch(part) for part in text.split(",")] if text else []
    hosts = [(_decoded(m["v6"] or m["name"]), m["port"] or "") for m in matches if m]
    if len(hosts) != len(matches):
        raise DatabaseUrlError(EXPECTED)
    return hosts


def _lists(hosts: list[tuple[str, str]]) -> dict[str, str]:
    return {"host": ",".join(host for host, _ in hosts), "port": ",".join(port for _, port in hosts)}


def _ports(text: str) -> list[str]:
    ports = text.split(",")
    if not all(port == "" or (re.fullmatch("[0-9]{1,5}", port) and 0 < int(port) < 65536) for port in ports):
        raise DatabaseUrlError(EXPECTED)
    return ports


def _decoded(text: str, unquote: Callable[..., str] = unquote) -> str:
    try:
        decoded = unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise DatabaseUrlError("must be UTF-8, percent-encoded") from None
    if "\x00" in decoded:
        raise DatabaseUrlError("must not contain NUL characters")
    return decoded


def _pairs(query: str) -> Iterator[tuple[str, str]]:
    for part in filter(None, query.split("&")):
        name, _, value = part.partition("=")
        yield _decoded(name, unquote_plus), _decoded(value, unquote_plus)


def _options(query: str) -> dict[str, str]:
    """The options as libpq has them."""
    options: dict[str, str] = {}
    if not all(_OPTION_NAME.fullmatch(name) for name, _ in _pairs(query)) or re.search(
        "(^|&)password=.*&[^=]*(&|$)", query
    ):
        # The name may be the rest of a value that is not encoded, as of a password with & in it, so it is not repeated.
        raise DatabaseUrlError("has an option without a name or a value; is a & percent-encoded as %26?")
    for name, value in _pairs(query):
        for libpq_name, libpq_value in _translated(name, value):
            if libpq_name == "options" and "options" in options:
                libpq_value = f"{options.pop('options')} {libpq_value}"
            elif libpq_name == "host" and "host" in options:  # SQLAlchemy's way to name several
                libpq_value = f"{options.pop('host')},{libpq_value}"
            if libpq_name in options:
                raise DatabaseUrlError(f"gives the option {name} twice")
            options[libpq_name] = libpq_value
    if re.search(r"[^,]:\d+(,|$)", options.get("host", "")) and "port" not in options:
        options |= _lists(_hosts(options["host"]))
    return options


def _translated(name: str, value: str) -> Iterator[tuple[str, str]]:
    """Yield the option of another driver as libpq's; nothing if it has no effect here. Raises DatabaseUrlError."""
    if value.lower() in GRANTED.get(name, ()):
        return
    if name in SCHEMAS:
        yield "options", f"-csearch_path={_schemas(name, value)}"
        return
    known = SAME.get(name, name)
    if name in INSTEAD or not _is_known(known):
        raise DatabaseUrlError(f"has an option {name} that libpq does not have{_hint(name)}")
    if known == "sslmode":
        value = SSL_WORDS.get(value.lower(), value.lower())
        if value not in SSL_MODES:
            raise DatabaseUrlError(f"has an option {name} whose value is none of {', '.join(SSL_MODES)}")
    if name in SSL_FILES and value not in ("", "system") and not Path(value).is_file():
        raise DatabaseUrlError(f"has an option {name} that names no file")
    if known == "target_session_attrs":
        value = SERVER_TYPES.get(value, value)
    yield known, value


def _is_known(name: str) -> bool:
    try:
        make_dsn(**{name: "1"})
    except ProgrammingError:
        return False
    return True


def _schemas(name: str, value: str) -> str:
    names = [part.strip().strip('"') for part in value.split(",")]
    if not all(map(_SCHEMA.fullmatch, names)):
        raise DatabaseUrlError(f"has an option {name} that names no schema")
    return ",".join(f'"{part}"' for part in names)


def _hint(name: str) -> str:
    return f": {INSTEAD[name]}" if name in INSTEAD else "; leave it out"
