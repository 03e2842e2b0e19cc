"""The `flask` commands."""

from __future__ import annotations

import atexit

from flask import Flask

from app.infrastructure.embedded import EmbeddedPostgres
from config import Config


def register(app: Flask) -> None:
    """Attach the commands to the application."""


def embedded_database_url(config: Config) -> str:
    """Without a DATABASE_URL: start the embedded server for as long as this process lives."""
    server = EmbeddedPostgres(config.embedded_data_dir)
    url = server.start()
    atexit.register(server.stop)
    return url
