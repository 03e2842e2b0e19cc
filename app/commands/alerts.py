"""`flask alerts …`: check the rules, show the states of the alerts, and test the webhooks."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path
from uuid import uuid4

import click
from flask import current_app

from app.application.alert_delivery import Delivery, DeliveryFailed
from app.application.alerts import AlertKey, Alerts, Event
from app.commands.extensions import ALERTS
from app.commands.group import Commands
from app.commands.table import table
from app.domain.alert_states import State
from app.domain.instants import TimeRange
from app.infrastructure.alerts.file import AlertFileError, read
from app.infrastructure.alerts.webhooks import Webhooks

HEAD = ("rule", "model", "state", "since (UTC)", "measured")

commands = Commands("alerts", help="Rules, states and webhooks of alerts (ALERTS_FILE).")


@commands.command()
@click.argument("file", required=False, type=click.Path(path_type=Path, dir_okay=False))
def check(file: Path | None) -> None:
    """Read FILE, or the file of ALERTS_FILE, and show its rules. Nothing is measured or sent."""
    if file is None:
        alerts, _, webhooks = _tools()
        rules, names = alerts.rules, webhooks.names
    else:
        try:
            content = read(file)
        except AlertFileError as error:
            raise click.ClickException(str(error)) from None
        rules, names = content.rules, [webhook.name for webhook in content.webhooks]
    click.echo(table(("rule", "models", "condition", "webhooks"), [
        (rule.name, ", ".join(rule.models), rule.measure.condition, ", ".join(rule.webhooks) or "–") for rule in rules
    ], left=4))  # fmt: skip
    click.echo(f"{len(rules)} rules, webhooks: {', '.join(names) or 'none'}.")


@commands.command("list")
def list_alerts() -> None:
    """Show the state of each alert."""
    alerts, _, _ = _tools()
    measured = alerts.measured()
    click.echo(table(HEAD, [
        (each.key.rule, each.key.model_name, each.alert.state.value,
         f"{each.alert.since.astimezone(timezone.utc):%Y-%m-%d %H:%M:%S}", each.text)
        for each in measured
    ], left=5))  # fmt: skip


@commands.command()
def run() -> None:
    """Evaluate all rules once, now, and send the due messages."""
    alerts, delivery, _ = _tools()
    events = alerts.evaluate(timedelta())
    if events is None:
        raise click.ClickException("Another process is evaluating the alerts just now.")
    for event in events:
        click.echo(f"{event.state.value}: {event.key.rule}, {event.key.model_name}: {event.text}")
    click.echo(f"{len(events)} events, {delivery.deliver()} messages accepted.")


@commands.command()
@click.argument("webhook")
def test(webhook: str) -> None:
    """Send a message to WEBHOOK that says it is a test."""
    _, _, webhooks = _tools()
    if webhook not in webhooks.names:
        raise click.ClickException(f"There is no webhook {webhook}; there are {', '.join(webhooks.names) or 'none'}.")
    now = datetime.now(timezone.utc)
    window = TimeRange(now - timedelta(minutes=15), now)
    event = Event(AlertKey("test", "no model"), State.FIRING, None, "This is a test.", now, "none", window)
    try:
        for message in webhooks.messages(event, [webhook]):
            webhooks.send(message.webhook, uuid4(), message.body)
    except DeliveryFailed as error:
        raise click.ClickException(f"{webhook} has not accepted the message. {error}") from None
    click.echo(f"{webhook} has accepted the message.")


def _tools() -> tuple[Alerts, Delivery, Webhooks]:
    tools: tuple[Alerts, Delivery, Webhooks] | None = current_app.extensions.get(ALERTS)
    if tools is None:
        raise click.ClickException("No alerts: ALERTS_FILE is not set.")
    return tools
