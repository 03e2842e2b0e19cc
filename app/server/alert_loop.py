"""The threads that evaluate alerts and send their messages.

Every worker of every instance has both. Locks in the database let one thread at a time evaluate, and one send a
message.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import structlog
from flask import Flask

from app.application.alert_delivery import Delivery
from app.application.alerts import Alerts
from app.commands.extensions import ALERTS
from app.domain.errors import PredlogError
from app.infrastructure.alerts.file import AlertFileError, read
from app.server.process_lifecycle import is_stopping
from config import Config, ConfigurationError

MAX_PAUSE_S = 5.0

log = structlog.get_logger(__name__)


def check(config: Config) -> None:
    """Raise ConfigurationError if the file of the alerts is invalid, before the service waits for a database."""
    if config.alerts_file:
        try:
            read(config.alerts_file)
        except AlertFileError as error:
            raise ConfigurationError(f"ALERTS_FILE: {error}") from None


def watch(app: Flask) -> None:
    """From now on, for as long as the process lives, look after the alerts if there is a file of them."""
    if ALERTS in app.extensions:
        alerts, delivery, _ = app.extensions[ALERTS]
        start(alerts, delivery, is_stopping)


def start(alerts: Alerts, delivery: Delivery, is_stopping: Callable[[], bool]) -> None:
    """Evaluate in one thread and send in another, until `is_stopping`, so that a slow webhook delays no evaluation.

    The threads end with the process. Their uncommitted work is done by the threads of another worker.
    """
    pause_s = min(alerts.every.total_seconds(), MAX_PAUSE_S)
    is_due = threading.Event()

    def evaluate() -> None:
        if alerts.evaluate():
            is_due.set()

    def evaluate_often() -> None:
        while not is_stopping():
            _attempt("alerts not evaluated", evaluate)
            time.sleep(pause_s)

    def send_often() -> None:
        while not is_stopping():
            _attempt("alerts not sent", lambda: delivery.deliver(lambda: not is_stopping()))
            is_due.wait(pause_s)
            is_due.clear()

    for target, name in ((evaluate_often, "alerts"), (send_often, "alert-messages")):
        threading.Thread(target=target, name=name, daemon=True).start()


def _attempt(failure: str, work: Callable[[], object]) -> None:
    """Do the work and log an exception, because the thread must live on and try again in the next round."""
    try:
        work()
    except PredlogError as error:
        log.warning(failure, reason=str(error))
    except Exception as error:  # its text may quote a message
        log.error(failure, kind=type(error).__qualname__)
