"""The life cycle that the settings describe."""

from __future__ import annotations

from app.application.retention import LifeCycle
from config import Config


def life_cycle_of(config: Config) -> LifeCycle:
    """Return how long each level is kept, and when rows go to the columnstore."""
    levels = ("raw", "minute", "hour", "day")
    keep = {level: getattr(config, f"{level}_retention") for level in levels}
    return LifeCycle({level: time for level, time in keep.items() if time}, config.columnstore_after)
