"""Read what other systems have kept of calls, as records of Predlog: one module each, which says what becomes what."""

from __future__ import annotations

SOURCES = ("predlog", "seed", "litellm", "mlflow", "access-log")
