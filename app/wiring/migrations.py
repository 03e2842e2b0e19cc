"""The migrations, for `flask db` and for the start of the service."""

from __future__ import annotations

from flask import Flask
from flask_migrate import Migrate, upgrade
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import make_url

from app.infrastructure.maintenance import engines
from app.infrastructure.postgres.database import only_to_the_host
from app.infrastructure.postgres.schema import MIGRATIONS
from app.infrastructure.tables import metadata
from app.wiring.life_cycle import life_cycle_of
from app.wiring.pools import open_pool
from config import Config


def register(app: Flask, url: str) -> None:
    """Give Flask-Migrate the part of Flask-SQLAlchemy that it needs."""
    app.config["SQLALCHEMY_DATABASE_URI"] = url
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = {"connect_args": only_to_the_host(make_url(url))}
    db = SQLAlchemy(metadata=metadata)
    db.init_app(app)
    Migrate(app, db, directory=str(MIGRATIONS), compare_type=True, compare_server_default=True)


def apply(config: Config) -> None:
    """Bring the database to the newest schema, and give its jobs the settings, as two commands would.

    Those are `flask db upgrade` and `flask lifecycle apply`; here nothing of the API is imported.
    """
    url = config.database_direct_url or config.database_url or ""
    app = Flask(__name__)
    register(app, url)
    with app.app_context():
        upgrade()
    engines.maintenance(open_pool(url, config)).apply(life_cycle_of(config))
