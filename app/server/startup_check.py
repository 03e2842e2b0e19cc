"""Check at the start who may send requests, and print it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import datetime, timezone

from app.domain.errors import PredlogError
from app.domain.hosts import ANY
from app.domain.keys import ApiKey
from app.domain.loopback import is_loopback
from app.infrastructure.key_store import PostgresKeyStore
from app.infrastructure.postgres.database import Database
from config import NO_AUTH, Config, ConfigurationError

CREATE = "`flask --app wsgi keys create --scope admin --name NAME`"


def check(config: Config, url: str) -> None:
    """Print who may send requests. Raises ConfigurationError if other machines can reach the service and no key exists.

    If the database cannot answer yet, the service may start, because it accepts no request before it knows its keys.
    """
    if config.auth == NO_AUTH:
        _say(f"AUTH=none: every client that reaches {config.host}:{config.port} may log, read and delete.")
        if not config.allowed_hosts and not is_loopback(config.host):
            _say("So may web pages, by any host name: ALLOWED_HOSTS has those that are allowed.")
        return
    try:
        keys = _keys(url)
    except PredlogError as error:
        _say(f"Which keys exist is not known, and no call is taken before it is: {error}")
        return
    if not keys and not is_loopback(config.host):
        raise ConfigurationError(
            f"HOST={config.host} can be reached from elsewhere, and no key exists. Make one with {CREATE}; "
            "or set AUTH=none if a proxy or a firewall keeps strangers out, or HOST=127.0.0.1."
        )
    if not keys and ANY in config.cors_origins:
        raise ConfigurationError(
            "CORS_ORIGINS=* would let every web page read and delete as long as no key exists. "
            f"Make one with {CREATE}, or name the origins."
        )
    if not keys:
        _say(f"No key exists: only this machine may call. {CREATE} makes the first.")
    elif not any(key.holds(datetime.now(timezone.utc)) for key in keys):
        _say(f"Every key is revoked or expired: all requests are refused. {CREATE} makes a new one.")


def _keys(url: str) -> Sequence[ApiKey]:
    database = Database(url, pool_size=1, connect_args={"connect_timeout": 3})
    try:
        return PostgresKeyStore(database).all()
    finally:
        database.engine.dispose()


def _say(sentence: str) -> None:
    print(f"predlog: {sentence}", file=sys.stderr)
