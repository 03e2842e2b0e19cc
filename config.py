"""All settings, read from the environment and from .env. A bad value stops the start with an error that names it.

This is the one place that declares them: .env.example, docs/settings.md and `predlog-server --help` are made from it
(`make settings`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

from environs import Env, EnvError

from app.settings import kinds
from app.settings.declaration import ConfigurationError, declared, read, setting
from app.settings.secrets import secret

__all__ = ("KEYS", "NAMES", "NO_AUTH", "SECRETS", "Config", "ConfigurationError", "load", "secret")

# AUTH: requests need an API key, or need none.
KEYS, NO_AUTH = "keys", "none"
MAX_TIMEOUT_MS = 2**31 - 1  # of PostgreSQL
# Where, in the order of Config, each section of the settings begins.
SECTIONS = {
    "DATABASE_URL": "Database",
    "HOST": "Server",
    "CONNECTIONS": "Limits",
    "OTLP_MODEL_ATTRIBUTES": "Other doors",
    "ALERTS_FILE": "Alerts",
    "RAW_RETENTION": "Life cycle",
}
# Secrets that are read by commands alone.
COMMAND_SECRETS = {
    "PREDLOG_SERVICE_PASSWORD": "The role that requests are answered with, 12 characters or more.",
    "PREDLOG_READER_PASSWORD": "The role that Grafana reads with, 12 characters or more.",
    "PREDLOG_ADMIN_KEY": "The first API key, which may do everything: `openssl rand -hex 32`.",
}


@dataclass(frozen=True)
class DatabaseParts:
    """The parts of the database's address, used if DB_HOST is set and DATABASE_URL is not."""

    db_host: str | None = setting(kinds.optional_text(), None, "DATABASE_URL in parts: used if this one is set.")
    db_port: int = setting(kinds.whole(1, 65_535), 5432, "With DB_HOST: the port.")
    db_name: str = setting(kinds.text(), "ml_logging_db", "With DB_HOST: the database.")
    db_user: str = setting(kinds.text(), "postgres", "With DB_HOST: the role.")
    db_password: str | None = setting(kinds.password(), None, "With DB_HOST: the role's password.")


@dataclass(frozen=True)
class Config:
    """The settings of one process. Durations without a unit in their name are timedeltas."""

    database_url: str | None = setting(
        kinds.database(writes=True),
        None,
        "The database; without it and DB_HOST, Predlog keeps an embedded PostgreSQL. It may be written for any driver, "
        "with any options that libpq has: …@a:5432,b:5432/predlog for several servers of which the one that takes "
        "writes is used, …/predlog?sslmode=require, …/predlog?schema=predlog, "
        "postgresql:///predlog?host=/run/postgresql.",
        example="postgresql://predlog:secret@localhost:5432/predlog",
    )
    database_read_url: str | None = setting(
        kinds.database(writes=False),
        None,
        "A streaming replica for statistics, lists and models; the primary answers if it is away or too far behind.",
    )
    max_replica_lag_s: float = setting(kinds.number(1, 86_400), 10.0, "How many seconds the replica may be behind.")
    database_direct_url: str | None = setting(
        kinds.database(writes=True),
        None,
        "The server itself, as the role that owns the database, for migrations and commands: if DATABASE_URL leads to "
        "a pooler such as PgBouncer, or names the role that `flask roles create-service` makes.",
    )
    embedded_data_dir: Path | None = setting(
        kinds.path(),
        None,
        "Where the embedded PostgreSQL keeps its data, if not in ~/.local/share/predlog/postgresql (for root "
        "/var/lib/predlog/postgresql).",
    )
    host: str = setting(
        kinds.text(), "127.0.0.1", "An address or a name of this machine; 0.0.0.0 or :: for every address of it."
    )
    port: int = setting(kinds.whole(1, 65_535), 8000, "The TCP port.")
    workers: int = setting(kinds.whole(1, 64), 2, "Processes that answer requests.")
    threads: int = setting(
        kinds.whole(1, 64),
        16,
        "Requests that each worker works on at once: single predictions that come together share a commit.",
    )
    start_timeout_s: float = setting(kinds.number(0, 3600), 30.0, "Seconds to wait for the database at the start.")
    shutdown_delay_s: float = setting(
        kinds.number(0, 60), 2.0, "Seconds between answering /ready with 503 and stopping, at SIGTERM."
    )
    debug: bool = setting(kinds.switch(), False, "Log SQL, and everything for people to read.")
    auth: str = setting(
        kinds.one_of(KEYS, NO_AUTH),
        KEYS,
        "Who may call: keys (who has one, see `flask keys`; this machine alone before the first is made), or none "
        "(anybody).",
    )
    allowed_hosts: tuple[str, ...] = setting(
        kinds.hosts(),
        (),
        "Hosts by which the service is called: example.org, *.example.org (all names below it), 192.0.2.1, "
        "[2001:db8::1]; * for all. Empty: if HOST is a loopback address, localhost and loopback addresses; else all.",
    )
    cors_origins: tuple[str, ...] = setting(
        kinds.origins(),
        (),
        "Origins whose pages may call the API: https://example.org, https://*.example.org:8443; * for all, which "
        "AUTH=none does not go with.",
    )
    connections: int = setting(
        kinds.whole(16, 16_384),
        512,
        "Connections that a worker holds at once; beyond them it closes those that were idle for longest.",
    )
    connections_per_address: int = setting(
        kinds.whole(0, 16_384),
        0,
        "The same for each address but loopback; 0: no limit. All callers behind one proxy share its address.",
    )
    request_timeout_s: float = setting(
        kinds.number(1, 3600),
        60.0,
        "Seconds in which a body must have arrived, and after which a connection is closed whose client sends nothing "
        "while the service waits for it, or reads less than 4 KB of its answer a second.",
    )
    answer_memory_bytes: int = setting(
        kinds.whole(4 * 2**20),
        64 * 2**20,
        "Bytes of large answers that a worker keeps until they are read; the others get 503.",
    )
    list_timeout_ms: int = setting(
        kinds.whole(1, MAX_TIMEOUT_MS),
        5_000,
        "Milliseconds that a page of a list may take, not more than a statement may.",
    )
    rate_limit: float = setting(
        kinds.number(0, 1_000_000),
        0.0,
        "Requests a second for each key, or for each address if no key is needed; 0: no limit.",
    )
    rate_burst: int = setting(kinds.whole(1, 1_000_000), 100, "With RATE_LIMIT: so many at once after a pause.")
    max_new_models_per_day: int = setting(
        kinds.whole(0, 1_000_000),
        10_000,
        "Models and versions not known before that each key, or each address if no key is needed, may log; 0: no "
        "limit.",
    )
    auth_failures_per_minute: int = setting(
        kinds.whole(0, 1_000_000),
        60,
        "Calls a minute, from one address, that are answered 401 because they bring no good key; the others get 429. "
        "0: no limit.",
    )
    max_body_bytes: int = setting(kinds.whole(1024), 16 * 2**20, "Bytes of a body, inflated.")
    max_concurrent_batches: int = setting(
        kinds.whole(1, 64),
        2,
        "Batches that a worker handles at once; the others get 503 and are sent again by the client.",
    )
    max_concurrent_exports: int = setting(
        kinds.whole(1, 16), 1, "Exports that a worker makes at once, each with a database connection beside POOL_SIZE."
    )
    export_timeout_s: float = setting(
        kinds.number(1, 86_400), 3600.0, "Seconds after which an export is cut; its client can go on from there."
    )
    statement_timeout_ms: int = setting(
        kinds.whole(1, MAX_TIMEOUT_MS), 30_000, "Milliseconds that a statement may take."
    )
    lock_timeout_ms: int = setting(
        kinds.whole(1, MAX_TIMEOUT_MS), 5_000, "Milliseconds that a statement may wait for a lock."
    )
    pool_size: int = setting(kinds.whole(1, 100), 8, "Database connections of each worker.")
    pool_timeout_s: float = setting(kinds.number(0.1), 5.0, "Seconds that a request waits for one of them.")
    otlp_model_attributes: tuple[str, ...] = setting(
        kinds.attributes(),
        ("predlog.model_name", "gen_ai.request.model", "gen_ai.response.model"),
        "Attributes of an OpenTelemetry span: the first that is there names the model.",
    )
    otlp_version_attributes: tuple[str, ...] = setting(
        kinds.attributes(),
        ("predlog.model_version", "gen_ai.response.model"),
        "Attributes of a span: the first that is there is the model's version.",
    )
    otlp_metadata_attributes: tuple[str, ...] = setting(
        kinds.attributes(),
        (
            "service.name", "gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.usage.input_tokens",
            "gen_ai.usage.output_tokens", "error.type",
        ),
        "Attributes of a span that are kept as metadata.",
    )  # fmt: skip
    cloudevents_model_attributes: tuple[str, ...] = setting(
        kinds.attributes(),
        ("inferenceservicename", "modelid"),
        "Attributes of a CloudEvent: those that are there make the model's name, joined by /.",
    )
    cloudevents_version_attributes: tuple[str, ...] = setting(
        kinds.attributes(), ("endpoint",), "Attributes of a CloudEvent: the first that is there is the model's version."
    )
    cloudevents_metadata_attributes: tuple[str, ...] = setting(
        kinds.attributes(), ("id", "namespace", "component"), "Attributes of a CloudEvent that are kept as metadata."
    )
    cloudevents_wait: timedelta = setting(
        kinds.duration(),
        timedelta(days=1),
        "How long a prediction's request or response waits for the other; after that the prediction counts as dropped.",
    )
    alerts_file: Path | None = setting(
        kinds.path(), None, "The file with the rules of the alerts, see docs/alerts.md; without it there are none."
    )
    public_url: str | None = setting(
        kinds.web_address(),
        None,
        "The address by which people find this service, as https://predlog.example.org: links in messages begin with "
        "it.",
    )
    raw_retention: timedelta | None = setting(kinds.retention(), None, "How long single predictions are kept.")
    minute_retention: timedelta | None = setting(
        kinds.retention(), None, "How long the aggregates by minute are kept: not shorter than what they are made of."
    )
    hour_retention: timedelta | None = setting(kinds.retention(), None, "How long those by hour are kept.")
    day_retention: timedelta | None = setting(kinds.retention(), None, "How long those by day are kept.")
    columnstore_after: timedelta = setting(
        kinds.duration(),
        timedelta(days=7),
        "When predictions and their minutes move to TimescaleDB's columnstore; hours and days go after a day.",
    )


SETTINGS = (*declared(Config), *declared(DatabaseParts))
NAMES = tuple(each.name for each in SETTINGS)
# What may also be given as the path of a file that holds it: NAME_FILE.
SECRETS = (*(each.name for each in SETTINGS if each.kind.is_secret), *COMMAND_SECRETS)


def load(env_file: str | None = ".env") -> Config:
    """Read the settings; the environment overrides .env. Raises ConfigurationError."""
    env = Env()
    if env_file and Path(env_file).is_file():
        try:
            env.read_env(env_file, recurse=False)
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
            raise ConfigurationError(f"{env_file} cannot be read: {reason}") from None
    try:
        config = Config(**read(Config, env))
        # Whatever else is called DB_PORT is none of ours unless DB_HOST is there.
        if config.database_url is None and env.str("DB_HOST", ""):
            config = replace(config, database_url=_address(DatabaseParts(**read(DatabaseParts, env))))
    except EnvError as error:
        raise ConfigurationError(str(error)) from None
    _check_retention(config)
    _check_database(config)
    _check_origins(config)
    return replace(config, list_timeout_ms=_list_timeout_ms(config))


def _list_timeout_ms(config: Config) -> int:
    """Return the timeout of lists; a shorter one of statements goes before the default. Raises ConfigurationError.

    A list that takes longer than a statement may has its connection closed by this process, and runs a second time.
    """
    lists, statements = config.list_timeout_ms, config.statement_timeout_ms
    if lists > statements and lists != Config.list_timeout_ms:
        raise ConfigurationError("LIST_TIMEOUT_MS must not be longer than STATEMENT_TIMEOUT_MS")
    return min(lists, statements)


def _address(parts: DatabaseParts) -> str:
    written = {
        "user": parts.db_user,
        "password": parts.db_password or "",
        "host": parts.db_host or "",
        "port": str(parts.db_port),
        "dbname": parts.db_name,
    }
    return kinds.canonical("DB_HOST", written, writes=True)


def _check_database(config: Config) -> None:
    """Refuse a second address without DATABASE_URL: the embedded server has no address that it could belong to."""
    for name in ("database_read_url", "database_direct_url"):
        if getattr(config, name) and config.database_url is None:
            raise ConfigurationError(f"{name.upper()} needs DATABASE_URL (or DB_HOST), the address of the primary")


def _check_origins(config: Config) -> None:
    """Refuse all origins without keys: every web page that a user of this network opens could read and delete."""
    if config.cors_origins == ("*",) and config.auth == NO_AUTH:
        raise ConfigurationError(
            "CORS_ORIGINS=* with AUTH=none would let every web page read and delete: name the origins, or set AUTH=keys"
        )


def _check_retention(config: Config) -> None:
    """Refuse a coarser level that is kept for a shorter time than the finer level that it is made of."""
    order = ("raw_retention", "minute_retention", "hour_retention", "day_retention")
    for finer, coarser in pairwise(order):
        keep, longer = getattr(config, finer), getattr(config, coarser)
        if longer is not None and (keep is None or keep > longer):
            raise ConfigurationError(f"{coarser.upper()} must not be shorter than {finer.upper()}")
