"""All settings, read from the environment and from .env. A bad value stops the start with an error that names it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from itertools import pairwise
from pathlib import Path

from environs import Env, EnvError
from marshmallow.validate import Length, OneOf, Range

NAMES = (
    "DATABASE_URL", "DATABASE_READ_URL", "MAX_REPLICA_LAG_S", "DATABASE_DIRECT_URL",
    "DB_HOST", "DB_PORT", "DB_NAME", "DB_USER", "DB_PASSWORD", "EMBEDDED_DATA_DIR",
    "HOST", "PORT", "WORKERS", "THREADS", "START_TIMEOUT_S", "SHUTDOWN_DELAY_S", "DEBUG", "CORS_ORIGINS", "AUTH",
    "ALLOWED_HOSTS", "AUTH_FAILURES_PER_MINUTE", "CONNECTIONS", "CONNECTIONS_PER_ADDRESS", "REQUEST_TIMEOUT_S",
    "RATE_LIMIT", "RATE_BURST", "MAX_NEW_MODELS_PER_DAY", "ANSWER_MEMORY_BYTES", "LIST_TIMEOUT_MS",
    "MAX_BODY_BYTES", "MAX_CONCURRENT_BATCHES", "MAX_CONCURRENT_EXPORTS", "EXPORT_TIMEOUT_S",
    "STATEMENT_TIMEOUT_MS", "LOCK_TIMEOUT_MS",
    "POOL_SIZE", "POOL_TIMEOUT_S",
    "ALERTS_FILE", "PUBLIC_URL",
    "OTLP_MODEL_ATTRIBUTES", "OTLP_VERSION_ATTRIBUTES", "OTLP_METADATA_ATTRIBUTES",
    "CLOUDEVENTS_MODEL_ATTRIBUTES", "CLOUDEVENTS_VERSION_ATTRIBUTES", "CLOUDEVENTS_METADATA_ATTRIBUTES",
    "CLOUDEVENTS_WAIT",
    "RAW_RETENTION", "MINUTE_RETENTION", "HOUR_RETENTION", "DAY_RETENTION", "COLUMNSTORE_AFTER",
)  # fmt: skip
# Settings that may also be given as the path of a file: NAME_FILE. Only commands read the last three.
SECRETS = (
    "DATABASE_URL", "DATABASE_READ_URL", "DATABASE_DIRECT_URL", "DB_PASSWORD",
    "PREDLOG_READER_PASSWORD", "PREDLOG_SERVICE_PASSWORD", "PREDLOG_ADMIN_KEY",
)  # fmt: skip
MAX_SECRET_BYTES = 64 * 1024
# AUTH: requests need an API key, or need none.
KEYS, NO_AUTH = "keys", "none"
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = rf"{_LABEL}(?:\.{_LABEL})*"
# A wildcard stands for all names below a domain of two labels or more, or below localhost.
_HOST = re.compile(rf"{_NAME}|\*\.(?:localhost|{_LABEL}\.{_NAME})|\[([0-9a-f:.]+)\]", re.ASCII)
_ORIGIN = re.compile(r"(https?)://([^/?#@\\\s]+?)(?::([0-9]{1,5}))?", re.ASCII)
_DEFAULT_PORTS = {"http": 80, "https": 443}
# The attributes of a span that give the model, its version and the metadata.
OTLP_MODEL_ATTRIBUTES = "predlog.model_name,gen_ai.request.model,gen_ai.response.model"
OTLP_VERSION_ATTRIBUTES = "predlog.model_version,gen_ai.response.model"
OTLP_METADATA_ATTRIBUTES = (
    "service.name,gen_ai.operation.name,gen_ai.provider.name,gen_ai.usage.input_tokens,gen_ai.usage.output_tokens,"
    "error.type"
)
_DURATION = re.compile(r"(\d{1,6}) *(d|days?|h|hours?)", re.IGNORECASE)


class ConfigurationError(Exception):
    """The service cannot start with a setting; the text names the setting and says which values it may have."""


@dataclass(frozen=True)
class Config:
    """The settings of one process. Durations without a unit in their name are timedeltas."""

    database_url: str | None = field(repr=False)
    database_read_url: str | None = field(repr=False)
    max_replica_lag_s: float
    database_direct_url: str | None = field(repr=False)
    embedded_data_dir: Path | None
    host: str
    port: int
    workers: int
    threads: int
    start_timeout_s: float
    shutdown_delay_s: float
    debug: bool
    cors_origins: tuple[str, ...]
    auth: str
    allowed_hosts: tuple[str, ...]
    auth_failures_per_minute: int
    connections: int
    connections_per_address: int
    request_timeout_s: float
    answer_memory_bytes: int
    list_timeout_ms: int
    rate_limit: float
    rate_burst: int
    max_new_models_per_day: int
    max_body_bytes: int
    max_concurrent_batches: int
    max_concurrent_exports: int
    export_timeout_s: float
    statement_timeout_ms: int
    lock_timeout_ms: int
    pool_size: int
    pool_timeout_s: float
    otlp_model_attributes: tuple[str, ...]
    otlp_version_attributes: tuple[str, ...]
    otlp_metadata_attributes: tuple[str, ...]
    cloudevents_model_attributes: tuple[str, ...]
    cloudevents_version_attributes: tuple[str, ...]
    cloudevents_metadata_attributes: tuple[str, ...]
    cloudevents_wait: timedelta
    raw_retention: timedelta | None
    minute_retention: timedelta | None
    hour_retention: timedelta | None
    day_retention: timedelta | None
    columnstore_after: timedelta
    alerts_file: Path | None = None
    public_url: str | None = None


def load(env_file: str | None = ".env") -> Config:
    """Read the settings; the environment overrides .env. Raises ConfigurationError."""
    env = Env()
    if env_file and Path(env_file).is_file():
        env.read_env(env_file, recurse=False)
    try:
        config = _read(env)
    except EnvError as error:
        raise ConfigurationError(str(error)) from None
    _check_retention(config)
    _check_database(config)
    _check_origins(config)
    return config


def _read(env: Env) -> Config:
    positive = Range(min=1)
    return Config(
        database_url=_database_url(env),
        database_read_url=_address(env, "DATABASE_READ_URL", writes=False),
        max_replica_lag_s=env.float("MAX_REPLICA_LAG_S", 10.0, validate=Range(min=1, max=86_400)),
        database_direct_url=_address(env, "DATABASE_DIRECT_URL", writes=True),
        embedded_data_dir=env.path("EMBEDDED_DATA_DIR", None),
        host=env.str("HOST", "127.0.0.1", validate=Length(min=1)),
        port=env.int("PORT", 8000, validate=Range(min=1, max=65535)),
        workers=env.int("WORKERS", 2, validate=Range(min=1, max=64)),
        threads=env.int("THREADS", 16, validate=Range(min=1, max=64)),
        start_timeout_s=env.float("START_TIMEOUT_S", 30.0, validate=Range(min=0, max=3600)),
        shutdown_delay_s=env.float("SHUTDOWN_DELAY_S", 2.0, validate=Range(min=0, max=60)),
        debug=env.bool("DEBUG", False),
        cors_origins=_list(env, "CORS_ORIGINS", _origin_problem),
        auth=env.str("AUTH", KEYS, validate=OneOf((KEYS, NO_AUTH), error="Must be keys or none.")),
        allowed_hosts=_list(env, "ALLOWED_HOSTS", _host_problem),
        auth_failures_per_minute=env.int("AUTH_FAILURES_PER_MINUTE", 60, validate=Range(min=0, max=1_000_000)),
        connections=env.int("CONNECTIONS", 512, validate=Range(min=16, max=16_384)),
        connections_per_address=env.int("CONNECTIONS_PER_ADDRESS", 0, validate=Range(min=0, max=16_384)),
        request_timeout_s=env.float("REQUEST_TIMEOUT_S", 60.0, validate=Range(min=1, max=3600)),
        answer_memory_bytes=env.int("ANSWER_MEMORY_BYTES", 64 * 2**20, validate=Range(min=4 * 2**20)),
        list_timeout_ms=env.int("LIST_TIMEOUT_MS", 5_000, validate=positive),
        rate_limit=env.float("RATE_LIMIT", 0.0, validate=Range(min=0, max=1_000_000)),
        rate_burst=env.int("RATE_BURST", 100, validate=Range(min=1, max=1_000_000)),
        max_new_models_per_day=env.int("MAX_NEW_MODELS_PER_DAY", 10_000, validate=Range(min=0, max=1_000_000)),
        max_body_bytes=env.int("MAX_BODY_BYTES", 16 * 2**20, validate=Range(min=1024)),
        max_concurrent_batches=env.int("MAX_CONCURRENT_BATCHES", 2, validate=Range(min=1, max=64)),
        max_concurrent_exports=env.int("MAX_CONCURRENT_EXPORTS", 1, validate=Range(min=1, max=16)),
        export_timeout_s=env.float("EXPORT_TIMEOUT_S", 3600.0, validate=Range(min=1, max=86_400)),
        statement_timeout_ms=env.int("STATEMENT_TIMEOUT_MS", 30_000, validate=positive),
        lock_timeout_ms=env.int("LOCK_TIMEOUT_MS", 5_000, validate=positive),
        pool_size=env.int("POOL_SIZE", 8, validate=Range(min=1, max=100)),
        pool_timeout_s=env.float("POOL_TIMEOUT_S", 5.0, validate=Range(min=0.1)),
        otlp_model_attributes=_attributes(env, "OTLP_MODEL_ATTRIBUTES", OTLP_MODEL_ATTRIBUTES),
        otlp_version_attributes=_attributes(env, "OTLP_VERSION_ATTRIBUTES", OTLP_VERSION_ATTRIBUTES),
        otlp_metadata_attributes=_attributes(env, "OTLP_METADATA_ATTRIBUTES", OTLP_METADATA_ATTRIBUTES),
        cloudevents_model_attributes=_attributes(env, "CLOUDEVENTS_MODEL_ATTRIBUTES", "inferenceservicename,modelid"),
        cloudevents_version_attributes=_attributes(env, "CLOUDEVENTS_VERSION_ATTRIBUTES", "endpoint"),
        cloudevents_metadata_attributes=_attributes(env, "CLOUDEVENTS_METADATA_ATTRIBUTES", "id,namespace,component"),
        cloudevents_wait=_duration(env, "CLOUDEVENTS_WAIT", "1 day"),
        raw_retention=_retention(env, "RAW_RETENTION"),
        minute_retention=_retention(env, "MINUTE_RETENTION"),
        hour_retention=_retention(env, "HOUR_RETENTION"),
        day_retention=_retention(env, "DAY_RETENTION"),
        columnstore_after=_duration(env, "COLUMNSTORE_AFTER", "7 days"),
        alerts_file=Path(path) if (path := env.str("ALERTS_FILE", "")) else None,
        public_url=_public_url(env.str("PUBLIC_URL", "").strip()),
    )


def _database_url(env: Env) -> str | None:
    """DATABASE_URL, or one made of DB_HOST, DB_PORT, …; None (the embedded server) if neither is set."""
    if url := _address(env, "DATABASE_URL", writes=True):
        return url
    host = env.str("DB_HOST", None)
    if not host:
        return None
    parts = {
        "user": env.str("DB_USER", "postgres"),
        "password": secret("DB_PASSWORD", env) or "",
        "host": host,
        "port": str(env.int("DB_PORT", 5432, validate=Range(min=1, max=65535))),
        "dbname": env.str("DB_NAME", "ml_logging_db"),
    }
    return _canonical("DB_HOST", parts, writes=True)


def _address(env: Env, name: str, *, writes: bool) -> str | None:
    """Return the address of a database, written for any PostgreSQL driver, as a URL for ours; None if it is not set."""
    text = (secret(name, env) or "").strip()
    return _canonical(name, text, writes=writes) if text else None


def _canonical(name: str, address: str | dict[str, str], *, writes: bool) -> str:
    from app.infrastructure.postgres import database_url

    try:
        if isinstance(address, str):
            return database_url.canonical(address, writes=writes)
        return database_url.of_parts(address, writes=writes)
    except database_url.DatabaseUrlError as error:
        # The address may hold a password: the error does not repeat it.
        raise ConfigurationError(f"{name} {error}") from None


def secret(name: str, env: Env | None = None) -> str | None:
    """Return the secret NAME, or the content of the file that NAME_FILE names; None if both are unset or empty.

    Line ends at the end of the file are left out. Raises ConfigurationError, which never repeats the secret.
    """
    env = env or Env()
    value, path = env.str(name, None), env.str(f"{name}_FILE", None)
    if not path:
        return value or None
    if value:
        raise ConfigurationError(f"{name} and {name}_FILE are both set: leave one of them out")
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_SECRET_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "its name is not valid"
        raise ConfigurationError(f"{name}_FILE names {path!r}, which cannot be read: {reason}") from None
    try:
        text = content.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise ConfigurationError(f"{name}_FILE names {path!r}, which is not UTF-8 text") from None
    if not text or len(content) > MAX_SECRET_BYTES or any(character in text for character in "\r\n\0"):
        raise ConfigurationError(f"{name}_FILE names {path!r}, which does not hold one line with the secret")
    return text


def _list(env: Env, name: str, problem: Callable[[str], str | None]) -> tuple[str, ...]:
    """Return the values between commas; `problem` returns a sentence if a value is refused. `*` must stand alone."""
    values = tuple(value.strip() for value in env.str(name, "").split(",")) if env.str(name, "").strip() else ()
    for value in values:
        if reason := None if values == ("*",) else problem(value):
            raise ConfigurationError(f"{name}: {value!r} {reason}")
    return values


def _attributes(env: Env, name: str, default: str) -> tuple[str, ...]:
    """Names between commas, without those that are empty."""
    return tuple(filter(None, (part.strip() for part in env.str(name, default).split(","))))


def _origin_problem(origin: str) -> str | None:
    if origin == "*":
        return "stands for every origin, so it must stand alone"
    match = _ORIGIN.fullmatch(origin)
    if match is None:
        return "is no origin: expected https://example.org or https://*.example.org, with a port or without, no path"
    scheme, host, port = match.groups()
    if port and (port.startswith("0") or int(port) > 65535):
        return "has a port that does not exist"
    if port and int(port) == _DEFAULT_PORTS[scheme]:
        return f"must be written without :{port}, as browsers send it"
    return _host_problem(host, "in its host ")


def _host_problem(host: str, where: str = "") -> str | None:
    match = _HOST.fullmatch(host)
    # Browsers take a name that ends in a number for an IPv4 address.
    is_address = host.rpartition(".")[2].isdigit()
    if match is None or len(host) > 253 or (is_address and not _is_ipv4(host)):
        return (
            f"has something {where}that is no host: expected example.org in lower case (other alphabets as xn--…), "
            "*.example.org for all names below it, 192.0.2.1 or [2001:db8::1]"
        )
    if match[1]:
        try:
            shortest = f"[{IPv6Address(match[1]).compressed}]"
        except AddressValueError:
            return "is no IPv6 address"
        if shortest != host:
            return f"must be written as {shortest}, as browsers send it"
    return None


def _is_ipv4(host: str) -> bool:
    try:
        IPv4Address(host)
    except AddressValueError:
        return False
    return True


def _public_url(text: str) -> str | None:
    """The address without a slash at its end; None if it is not set."""
    address = text.rstrip("/")
    if address and not re.fullmatch(r"https?://[^/?#@\\\s]+(/[^?#\\\s]*)?", address, re.ASCII):
        raise ConfigurationError(f"PUBLIC_URL must be an address as https://logs.example.org, not {text!r}")
    return address or None


def _duration(env: Env, name: str, default: str) -> timedelta:
    text = env.str(name, default)
    match = _DURATION.fullmatch(text.strip())
    if match is None or int(match[1]) == 0 or int(match[1]) > 100_000:
        raise ConfigurationError(f'{name} must be a duration like "90 days" or "36 hours", not "{text}"')
    return timedelta(**{"days" if match[2].lower().startswith("d") else "hours": int(match[1])})


def _retention(env: Env, name: str) -> timedelta | None:
    return _duration(env, name, "") if env.str(name, "") else None


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
