"""Warnings in the host's log: one for each kind of trouble, never a payload or a key."""

from __future__ import annotations

import logging
import time

logger = logging.getLogger("predlog")

QUIET_SECONDS = 300.0
MAX_KINDS = 200  # some name what the host made up, and could be any number


class Trouble:
    """Says each kind of trouble once, and again only if it is still there minutes later."""

    def __init__(self) -> None:
        self._said: dict[str, float] = {}
        self._away = False

    def warn(self, kind: str, text: str, *values: object) -> None:
        """Log a warning, unless this kind was logged in the last five minutes."""
        now = time.monotonic()
        if kind not in self._said and len(self._said) >= MAX_KINDS:
            kind = "more"
        if now - self._said.get(kind, -QUIET_SECONDS) >= QUIET_SECONDS:
            self._said[kind] = now
            logger.warning(text, *values)

    def away(self, why: str, needs_someone: bool = False) -> None:
        """Records cannot be delivered for now."""
        self._away = True
        self.warn(why if needs_someone else "away", "Predlog: records wait for the service and are sent later: %s", why)

    def back(self) -> None:
        """Records are delivered (again)."""
        if self._away:
            self._away = False
            logger.info("Predlog: records are delivered again")
