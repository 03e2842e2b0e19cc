"""Under these keys of `app.extensions` commands and processes find what they work with."""

from __future__ import annotations

ALERTS = "predlog.alerts"
MAINTENANCE = "predlog.maintenance"
