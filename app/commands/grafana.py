"""`flask grafana …`: prepare the database for Grafana."""

from __future__ import annotations

import click
from flask import current_app

from app.commands.group import Commands, required_password
from app.infrastructure.roles.reader_role import ROLE, create

PASSWORD = "PREDLOG_READER_PASSWORD"

commands = Commands("grafana", help="Prepare the database for Grafana.")


@commands.command("create-reader")
def create_reader() -> None:
    """Create the role that Grafana reads with, or renew its rights and password.

    The password comes from PREDLOG_READER_PASSWORD, or from the file that PREDLOG_READER_PASSWORD_FILE names, so that
    neither the shell's history nor a list of processes shows it.
    """
    left = create(current_app.extensions["migrate"].db.engine, required_password(PASSWORD, ROLE))
    click.echo(f"{ROLE} may log in and read the log and its aggregates, and nothing else.")
    for what in left:
        click.echo(f"Only a superuser could also change this: {what}.", err=True)
