"""Pools of connections with the settings of the service."""

from __future__ import annotations

from collections.abc import Mapping

from app.infrastructure.postgres.database import Database
from app.infrastructure.postgres.statement_watchdog import GRACE_S
from config import Config


def open_pool(
    url: str, config: Config, settings: Mapping[str, str] | None = None, *, size: int | None = None
) -> Database:
    """Make a pool of connections, each opened when it is needed.

    `settings` of PostgreSQL go before those that all pools have; `size` is POOL_SIZE if it is not given.
    """
    common = {
        # The statements are short: JIT compilation or parallel workers would take longer than the statements.
        "jit": "off",
        "max_parallel_workers_per_gather": "0",
        "statement_timeout": str(config.statement_timeout_ms),
        "lock_timeout": str(config.lock_timeout_ms),
    }
    return Database(
        url,
        {**common, **(settings or {})},
        timeout_s=config.statement_timeout_ms / 1000 + GRACE_S,
        pool_size=config.pool_size if size is None else size,
        max_overflow=0,
        pool_use_lifo=True,  # the connection used last knows most of the chunks already
        pool_timeout=config.pool_timeout_s,
        hide_parameters=True,
        connect_args={
            "connect_timeout": 3,
            "application_name": "predlog",
            # The driver notices within half a minute that a server has vanished, instead of within two hours.
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 4,
            "tcp_user_timeout": 30_000,
        },
    )
