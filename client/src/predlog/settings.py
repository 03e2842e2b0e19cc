"""The options of a client, checked once: a wrong one stops the program at its start, not while it serves."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Union

from predlog import environment
from predlog.ledger import default_directory

MAX_BATCH_RECORDS = 10_000
MAX_BATCH_BYTES = 1024 * 1024
MIN_SPOOL_BYTES = 64 * 1024

MODES = ("thread", "sync")

Exceptions = tuple[type[BaseException], ...]
Fields = dict[str, Any]
BeforeSend = Callable[[Fields], Union[Fields, None]]
IsFailure = Callable[[BaseException], object]
OnError = Callable[[str], object]


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
    mode: str = "thread"
    version: object = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    environment: str | None = None
    release: str | None = None
    host: bool = False
    trace_ids: bool | None = None
    exception_text: bool = True
    sample: float = 1.0
    sample_keep_slow_ms: float | None = None
    before_send: BeforeSend | None = None
    ignore: Exceptions = ()
    is_failure: IsFailure | None = None
    on_error: OnError | None = None
    debug: bool = False
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)  # may hold a password, as the next one may
    proxy: str | None = field(default=None, repr=False)
    ca_file: str | None = None
    client_certificate: str | None = None
    client_key: str | None = None
    unix_socket: str | None = None

    def __post_init__(self) -> None:
        _whole("queue_size", self.queue_size, least=1)
        _whole("batch_size", self.batch_size, least=1, most=MAX_BATCH_RECORDS)
        _whole("spool_max_bytes", self.spool_max_bytes, least=MIN_SPOOL_BYTES)
        for name in ("flush_interval", "timeout", "max_age"):
            _seconds(name, getattr(self, name))
        _seconds("exit_timeout", self.exit_timeout, zero=True)
        _number("sample", self.sample, most=1.0)
        if self.sample_keep_slow_ms is not None:
            _number("sample_keep_slow_ms", self.sample_keep_slow_ms)
        if self.mode not in MODES:
            raise ValueError(f"mode must be one of {', '.join(MODES)}")
        if self.mode == "sync" and self.spool_dir is not None:
            raise ValueError("spool_dir is for mode thread: in mode sync each record is sent when it is logged")
        for name in ("metadata", "headers"):
            if not isinstance(getattr(self, name), Mapping):
                raise ValueError(f"{name} must be a mapping")
        for name in ("before_send", "is_failure", "on_error"):
            if getattr(self, name) is not None and not callable(getattr(self, name)):
                raise ValueError(f"{name} must be a function")

    @classmethod
    def made_of(cls, given: Mapping[str, Any]) -> Settings:
        """The options that are given, not None, then those of the environment, then the defaults.

        Names in `given` that are no options are left alone.
        """
        names = [option.name for option in fields(cls)]
        options = environment.read(_KINDS)
        options.update({name: given[name] for name in names if given.get(name) is not None})
        for name in options.keys() & _PATHS:
            options[name] = os.fspath(options[name])
        for name in options.keys() & _MADE_ABSOLUTE:
            if options[name]:
                options[name] = os.path.abspath(options[name])
        if "ignore" in options:
            options["ignore"] = _exceptions(options["ignore"])
        return cls(**options)

    @property
    def batch_bytes(self) -> int:
        """Bytes after which a batch, or a spool file, is full: a small part of a spool at its cap."""
        return MAX_BATCH_BYTES if self.spool_dir is None else min(MAX_BATCH_BYTES, self.spool_max_bytes // 8)


_PATHS = {"spool_dir", "ledger_dir", "ca_file", "client_certificate", "client_key", "unix_socket"}
# They are opened again in every forked child, and the program may change its directory meanwhile. Not unix_socket: the
# system takes no path of more than about a hundred bytes, and an absolute one may be longer.
_MADE_ABSOLUTE = _PATHS - {"unix_socket"}

_KINDS: dict[str, Callable[[str], Any]] = {
    **dict.fromkeys(("queue_size", "batch_size", "spool_max_bytes"), int),
    **dict.fromkeys(("flush_interval", "timeout", "max_age", "exit_timeout", "sample", "sample_keep_slow_ms"), float),
    **dict.fromkeys(("spool_dir", "ledger_dir", "mode", "version", "environment", "release"), str),
    **dict.fromkeys(("proxy", "ca_file", "client_certificate", "client_key", "unix_socket"), str),
    **dict.fromkeys(("host", "trace_ids", "exception_text", "debug"), environment.yes_or_no),
    **dict.fromkeys(("metadata", "headers"), environment.json_object),
}


def _exceptions(value: type[BaseException] | Exceptions) -> Exceptions:
    """One kind of exception, or several. Raises ValueError for anything else."""
    kinds = value if isinstance(value, tuple) else tuple(value) if isinstance(value, (list, set)) else (value,)
    if not all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds):
        raise ValueError("ignore must be exceptions")
    return kinds


def _whole(name: str, value: object, least: int, most: int | None = None) -> None:
    if type(value) is not int or value < least or (most is not None and value > most):
        limit = f"at least {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"{name} must be a whole number, {limit}, not {value!r}")


def _number(name: str, value: object, most: float = math.inf) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= most:
        limit = "0 or more" if math.isinf(most) else f"from 0 to {most:g}"
        raise ValueError(f"{name} must be a number, {limit}, not {value!r}")


def _seconds(name: str, value: object, zero: bool = False) -> None:
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float))
        or not math.isfinite(value)
        or value < 0
        or (value == 0 and not zero)
    ):
        raise ValueError(f"{name} must be a number of seconds, {'0 or more' if zero else 'more than 0'}, not {value!r}")
