"""The alerts of ALERTS_FILE."""

from __future__ import annotations

import structlog
from flask import Flask

from app.application.alert_delivery import Delivery
from app.application.alerts import MAX_MODELS, Alerts
from app.application.replica_routing import Readers
from app.commands.extensions import ALERTS
from app.domain.errors import PredlogError
from app.infrastructure.alerts.file import AlertFileError, read
from app.infrastructure.alerts.store import PostgresAlertStore
from app.infrastructure.alerts.webhooks import Webhooks
from app.wiring.pools import open_pool
from config import Config, ConfigurationError

# One to evaluate, one to send, which each hold it for as long as they take, and one for requests about alerts.
CONNECTIONS = 3
# A message is sent within the transaction that has locked it; the server must not end that meanwhile.
SETTINGS = {"idle_in_transaction_session_timeout": "0"}

log = structlog.get_logger(__name__)


def make(app: Flask, readers: Readers, url: str, config: Config) -> Alerts | None:
    """Return the alerts of ALERTS_FILE, with connections of their own so that no request waits for a webhook."""
    if config.alerts_file is None:
        return None
    try:
        file = read(config.alerts_file)
    except AlertFileError as error:
        raise ConfigurationError(f"ALERTS_FILE: {error}") from None
    store = PostgresAlertStore(open_pool(url, config, SETTINGS, size=CONNECTIONS))
    webhooks = Webhooks(file.webhooks, config.public_url)
    alerts = Alerts(
        file.rules,
        store,
        lambda question: readers.ask(lambda reader: reader.statistics.ask(question)),
        webhooks.messages,
        file.every,
        lambda rule, error: log.warning("rule not measured", rule=rule, reason=_reason(error)),
        lambda rule, number: log.warning("models left out", rule=rule, number=number, watched=MAX_MODELS),
    )
    delivery = Delivery(
        store, webhooks.send, lambda name, reason: log.warning("message not sent", webhook=name, reason=reason)
    )
    app.extensions[ALERTS] = alerts, delivery, webhooks
    return alerts


def _reason(error: Exception) -> str:
    """Return the text of a domain error, and only the type of any other, because its text may quote a request."""
    return str(error) if isinstance(error, PredlogError) else type(error).__qualname__
