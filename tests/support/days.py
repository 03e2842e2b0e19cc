"""A day that does not end while a test goes on."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone

from app.domain.instants import DAY, floor


def today(lasting: timedelta = timedelta(minutes=3)) -> datetime:
    """The beginning of the present day of UTC, once a day goes on for so long: the next one if this one ends soon."""
    while (day := floor(_now(), DAY)) != floor(_now() + lasting, DAY):
        time.sleep(0.5)
    return day


def _now() -> datetime:
    return datetime.now(timezone.utc)
