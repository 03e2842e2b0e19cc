"""Warnings in the host's log: one for each kind of trouble, never a payload or a key."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

logger = logging.getLogger("predlog")

QUIET_SECONDS = 300.0
MAX_KINDS = 200  # some name what the host made up, and could be any number


def show_debug() -> None:
    """Write all that the client logs to standard error."""
    logger.setLevel(logging.DEBUG)
    if not any(getattr(handler, "predlog", False) for handler in logger.handlers):
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s [%(process)d] %(message)s"))
        handler.predlog = True  # type: ignore[attr-defined]  # ours, to add it once
        logger.addHandler(handler)


def say(level: int, text: str, *values: object) -> None:
    """Log it. A handler or a filter of the host that raises ends neither the client's threads nor the host's call."""
    try:
        logger.log(level, text, *values)
    except KeyboardInterrupt:
        raise
    except BaseException:
        pass  # there is no other place to tell of it


class Trouble:
    """Says each kind of trouble once, and again only if it is still there minutes later."""

    def __init__(self, on_error: Callable[[str], object] | None = None) -> None:
        self._on_error = on_error
        self._said: dict[str, float] = {}
        self._away = False

    def warn(self, kind: str, text: str, *values: object) -> None:
        """Log a warning, unless this kind was logged in the last five minutes."""
        now = time.monotonic()
        if kind not in self._said and len(self._said) >= MAX_KINDS:
            kind = "more"
        if now - self._said.get(kind, -QUIET_SECONDS) >= QUIET_SECONDS:
            self._said[kind] = now
            say(logging.WARNING, text, *values)
            if self._on_error is not None:
                try:
                    self._on_error(text % values)
                except KeyboardInterrupt:
                    raise
                except BaseException as error:  # sys.exit, too: it would end the client's thread and nothing else
                    say(logging.WARNING, "Predlog: on_error raised %s", type(error).__name__)

    def away(self, why: str, misconfigured: bool = False) -> None:
        """Records cannot be delivered for now."""
        self._away = True
        self.warn(why if misconfigured else "away", "Predlog: records wait for the service and are sent later: %s", why)

    def back(self) -> None:
        """Records are delivered (again)."""
        if self._away:
            self._away = False
            say(logging.INFO, "Predlog: records are delivered again")
