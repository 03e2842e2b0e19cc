"""The thread that evaluates alerts and sends what people are to be told.

Every worker of every instance has one; the database lets one of them at a time evaluate, and one send a message.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog
from flask import Flask

from app.application.alert_delivery import Delivery
from app.application.alerts import Alerts
from app.commands.alerts import EXTENSION
from app.domain.errors import PredlogError
from app.infrastructure.alerts.file import AlertFileError, read
from app.server.process_lifecycle import is_stopping
from config import Config, ConfigurationError

MAX_PAUSE_S = 5.0

log = structlog.get_logger(__name__)


def check(config: Config) -> None:
    """Raises ConfigurationError if the file of the alerts cannot be used: before a database is waited for."""
    if config.alerts_file:
        try:
            read(config.alerts_file)
        except AlertFileError as error:
            raise ConfigurationError(f"ALERTS_FILE: {error}") from None


def watch(app: Flask) -> None:
    """From now on, for as long as the process lives, look after the alerts if there is a file of them."""
    if EXTENSION in app.extensions:
        alerts, delivery, _ = app.extensions[EXTENSION]
        start(alerts, delivery, is_stopping)


def start(
    alerts: Alerts, delivery: Delivery, is_stopping: Callable[[], bool]
) -> tuple[threading.Thread, threading.Event]:
    """Evaluate and send until `is_stopping`, or until the event that is returned is set.

    The thread ends with the process: what it was doing then is not committed, and another one does it.
    """
    end = threading.Event()
    pause_s = min(alerts.every.total_seconds(), MAX_PAUSE_S)

    def go_on() -> bool:
        return not (end.is_set() or is_stopping())

    def run() -> None:
        while go_on():
            _attempt("alerts not evaluated", lambda: alerts.evaluate())
            if go_on():
                _attempt("alerts not sent", lambda: delivery.deliver(go_on))
            end.wait(pause_s)

    thread = threading.Thread(target=run, name="alerts", daemon=True)
    thread.start()
    return thread, end


def _attempt(failure: str, work: Callable[[], object]) -> None:
    """A database that is away, or a mistake of ours, must not end the thread: the next round tries again."""
    try:
        work()
    except PredlogError as error:
        log.warning(failure, reason=str(error))
    except Exception as error:  # its text may have in it what was sent
        log.error(failure, kind=type(error).__qualname__)
