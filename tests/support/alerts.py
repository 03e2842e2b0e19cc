"""A file of alerts, and the tables that it is about."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Engine

from support.receiver import Receiver


def write_alerts(folder: Path, receiver: Receiver, rules: str, every: str = "1s") -> Path:
    """Write alerts.toml with a webhook `team` that leads to the receiver, its address in a file."""
    (folder / "team-url").write_text(receiver.url + "\n")
    file = folder / "alerts.toml"
    file.write_text(f'every = "{every}"\n[[webhook]]\nname = "team"\nurl_file = "team-url"\n{rules}')
    return file


def errors_of(model: str, more: str = "") -> str:
    """A rule about the error rate of the last hour."""
    return (
        f'[[rule]]\nname = "errors"\nmodels = ["{model}"]\nmeasure = "error_rate"\nabove = 0.1\nwindow = "1h"\n'
        f'webhooks = ["team"]\n{more}\n'
    )


def forget_alerts(database: Engine) -> None:
    """Empty the tables, and let the next evaluation come at once."""
    with database.connect() as connection:
        connection.exec_driver_sql("TRUNCATE alert_state, alert_event, alert_message")
        connection.exec_driver_sql("UPDATE alert_evaluation SET evaluated_at = '-infinity'")


def wait_longer(database: Engine) -> None:
    """Let what waits for another attempt be due now."""
    with database.connect() as connection:
        connection.exec_driver_sql("UPDATE alert_message SET next_try_at = now()")
