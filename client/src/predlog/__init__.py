"""Predlog: log every call of an ML model without making it wait."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from predlog.client import Client
from predlog.counts import Stats
from predlog.tracking import Call
from predlog.version import __version__

if TYPE_CHECKING:
    from predlog.frames import compare, read, stats, timeseries

__all__ = ["Call", "Client", "Stats", "__version__", "compare", "read", "stats", "timeseries"]


def __getattr__(name: str) -> Any:
    """The functions for notebooks, of which a program that logs needs none."""
    if name not in ("compare", "read", "stats", "timeseries"):
        raise AttributeError(f"module 'predlog' has no attribute {name!r}")
    from predlog import frames

    return getattr(frames, name)
