"""The options of a client, checked once: a wrong one stops the program where it starts, not where it serves."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field

from predlog.ledger import default_directory

MAX_BATCH_RECORDS = 10_000
MAX_BATCH_BYTES = 1024 * 1024
MIN_SPOOL_BYTES = 64 * 1024

_YES = ("1", "true", "yes", "on")


@dataclass(frozen=True)
class Settings:
    """See `Client` for what each means; times are in seconds."""

    queue_size: int = 10_000
    batch_size: int = 500
    flush_interval: float = 1.0
    timeout: float = 10.0
    spool_dir: str | None = None
    spool_max_bytes: int = 100 * 1024 * 1024
    max_age: float = 7 * 24 * 3600.0
    exit_timeout: float = 2.0
    ledger_dir: str = field(default_factory=default_directory)

    def __post_init__(self) -> None:
        _whole("queue_size", self.queue_size, least=1)
        _whole("batch_size", self.batch_size, least=1, most=MAX_BATCH_RECORDS)
        _whole("spool_max_bytes", self.spool_max_bytes, least=MIN_SPOOL_BYTES)
        for name in ("flush_interval", "timeout", "max_age"):
            _seconds(name, getattr(self, name))
        _seconds("exit_timeout", self.exit_timeout, zero=True)

    @property
    def batch_bytes(self) -> int:
        """Bytes after which a batch, or a spool file, is full: a small part of a spool at its cap."""
        return MAX_BATCH_BYTES if self.spool_dir is None else min(MAX_BATCH_BYTES, self.spool_max_bytes // 8)


def disabled_by_environment() -> bool:
    """Whether PREDLOG_DISABLED asks for a client that does nothing."""
    return os.environ.get("PREDLOG_DISABLED", "").strip().lower() in _YES


def _whole(name: str, value: object, least: int, most: int | None = None) -> None:
    if type(value) is not int or value < least or (most is not None and value > most):
        limit = f"at least {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"{name} must be a whole number, {limit}, not {value!r}")


def _seconds(name: str, value: object, zero: bool = False) -> None:
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float))
        or not math.isfinite(value)
        or value < 0
        or (value == 0 and not zero)
    ):
        raise ValueError(f"{name} must be a number of seconds, {'0 or more' if zero else 'more than 0'}, not {value!r}")
