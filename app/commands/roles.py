"""`flask roles …`: create the role that the service logs in to the database as."""

from __future__ import annotations

import click
from flask import current_app

from app.commands.group import Commands, required_password
from app.infrastructure.roles.service_role import ROLE, create

PASSWORD = "PREDLOG_SERVICE_PASSWORD"

commands = Commands("roles", help="Create the role that the service logs in to the database as.")


@commands.command("create-service")
def create_service() -> None:
    """Create the role that requests are answered with, or renew its rights and password.

    The password comes from PREDLOG_SERVICE_PASSWORD, or from the file that PREDLOG_SERVICE_PASSWORD_FILE names.
    Afterwards DATABASE_URL may name this role; DATABASE_DIRECT_URL then names the owner, for migrations and the other
    commands.
    """
    create(current_app.extensions["migrate"].db.engine, required_password(PASSWORD, ROLE))
    click.echo(f"{ROLE} may answer requests: it logs, reads and deletes predictions; it cannot make keys or migrate.")
