"""Flask-Migrate, which finds the migrations and the tables that they are compared with."""

from __future__ import annotations

from flask import Flask
from flask_migrate import Migrate
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import make_url

from app.infrastructure.postgres.database import only_to_the_host
from app.infrastructure.postgres.schema import MIGRATIONS
from app.infrastructure.tables import metadata


def register(app: Flask, url: str) -> None:
    """Give Flask-Migrate the part of Flask-SQLAlchemy that it needs."""
    app.config["SQLALCHEMY_DATABASE_URI"] = url
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = {"connect_args": only_to_the_host(make_url(url))}
    db = SQLAlchemy(metadata=metadata)
    db.init_app(app)
    Migrate(app, db, directory=str(MIGRATIONS), compare_type=True, compare_server_default=True)
