"""Predlog: log every call of an ML model without making it wait."""

from __future__ import annotations

from predlog.client import Client
from predlog.counts import Stats
from predlog.tracking import Call
from predlog.version import __version__

__all__ = ["Call", "Client", "Stats", "__version__"]
