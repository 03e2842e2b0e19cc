"""Find a TimescaleDB with Community features for the suite: the first of four providers that works here."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from . import container, environment, native, wasm


@dataclass(frozen=True)
class Provider:
    """One way to get a fresh database.

    `why_not` says quickly why it cannot be had, or None. `start` yields an SQLAlchemy URL (postgresql+psycopg2) whose
    role may create the extension, and takes everything away again. Not `concurrent`: all clients share one backend
    session, so a transaction makes everyone else wait. Without `background_jobs` a policy runs only by `run_job`.
    """

    name: str
    why_not: Callable[[], str | None]
    start: Callable[[], AbstractContextManager[str]]
    concurrent: bool = True
    background_jobs: bool = True


PROVIDERS = (
    Provider("environment", environment.why_not, environment.start),
    Provider("container", container.why_not, container.start),
    Provider("native", native.why_not, native.start),
    Provider("wasm", wasm.why_not, wasm.start, concurrent=False, background_jobs=False),
)


def timescale_provider() -> Provider | None:
    """Return the first provider that works; only the one that TEST_PROVIDER names, if it is set."""
    return next((provider for provider in PROVIDERS if _why_not(provider) is None), None)


def reasons() -> list[str]:
    """Why each provider before the chosen one was passed over, one line each."""
    lines = []
    for provider in PROVIDERS:
        reason = _why_not(provider)
        if reason is None:
            break
        lines.append(f"{provider.name}: {reason}")
    return lines


def _why_not(provider: Provider) -> str | None:
    wanted = os.environ.get("TEST_PROVIDER", provider.name)
    return provider.why_not() if wanted == provider.name else f"TEST_PROVIDER asks for {wanted}"
