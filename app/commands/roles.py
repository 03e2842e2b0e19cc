"""`flask roles …`: whom the service logs in as."""

from __future__ import annotations

import click
from flask import current_app
from flask.cli import AppGroup

from app.infrastructure.roles.login_role import RoleError
from app.infrastructure.roles.service_role import ROLE, create
from config import ConfigurationError, secret

PASSWORD = "PREDLOG_SERVICE_PASSWORD"

commands = AppGroup("roles", help="Whom the service logs in to the database as.")


@commands.command("create-service")
def create_service() -> None:
    """Create the role that requests are answered with, or renew its rights and password.

    The password comes from PREDLOG_SERVICE_PASSWORD, or from the file that PREDLOG_SERVICE_PASSWORD_FILE names.
    Afterwards DATABASE_URL may name this role; DATABASE_DIRECT_URL then names the owner, for migrations and the other
    commands.
    """
    try:
        password = secret(PASSWORD)
    except ConfigurationError as error:
        raise click.ClickException(str(error)) from None
    if not password:
        raise click.ClickException(f"{PASSWORD} is not set: it is the password that {ROLE} shall have.")
    try:
        create(current_app.extensions["migrate"].db.engine, password)
    except RoleError as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"{ROLE} may log calls, read and delete them, and nothing else.")
