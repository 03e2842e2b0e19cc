"""A group of commands that answers a foreseen error with a sentence."""

from __future__ import annotations

from typing import Any

import click
from flask.cli import AppGroup

from app.domain.errors import PredlogError
from app.infrastructure.roles.login_role import RoleError
from config import ConfigurationError, secret


class Commands(AppGroup):
    """Print the message of a foreseen error and exit with 1; any other error keeps its stack trace."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (PredlogError, ConfigurationError, RoleError) as error:
            raise click.ClickException(str(error)) from None


def required_password(name: str, role: str) -> str:
    """The password in the setting `name`, or in the file that `name`_FILE names, for `role`. Raises ClickException."""
    password = secret(name)
    if not password:
        raise click.ClickException(f"{name} is not set: it is the password that {role} shall have.")
    return password
