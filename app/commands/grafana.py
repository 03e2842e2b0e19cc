"""`flask grafana …`: what Grafana needs of the database."""

from __future__ import annotations

import click
from flask import current_app
from flask.cli import AppGroup

from app.infrastructure.roles.login_role import RoleError
from app.infrastructure.roles.reader_role import ROLE, create
from config import ConfigurationError, secret

PASSWORD = "PREDLOG_READER_PASSWORD"

commands = AppGroup("grafana", help="What Grafana needs of the database.")


@commands.command("create-reader")
def create_reader() -> None:
    """Create the role that Grafana reads with, or renew its rights and password.

    The password comes from PREDLOG_READER_PASSWORD, or from the file that PREDLOG_READER_PASSWORD_FILE names, so that
    neither the shell's history nor a list of processes shows it.
    """
    try:
        password = secret(PASSWORD)
    except ConfigurationError as error:
        raise click.ClickException(str(error)) from None
    if not password:
        raise click.ClickException(f"{PASSWORD} is not set: it is the password that {ROLE} shall have.")
    try:
        left = create(current_app.extensions["migrate"].db.engine, password)
    except RoleError as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"{ROLE} may log in and read the log and its aggregates, and nothing else.")
    for what in left:
        click.echo(f"Only a superuser could also settle this: {what}.", err=True)
