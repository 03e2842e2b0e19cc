"""Read predictions that other systems have kept, as records of Predlog: a module each says what becomes what."""

from __future__ import annotations

SOURCES = ("predlog", "seed", "litellm", "mlflow", "access-log")
