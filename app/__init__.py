"""Predlog: a prediction log for machine-learning services.

create_app() is the one place that knows every layer and wires them.
"""

from __future__ import annotations

from flask import Flask
from flask_cors import CORS
from flask_migrate import Migrate
from flask_sqlalchemy import SQLAlchemy

import config as configuration
from app import cli, logging
from app.application.catalogue import Catalogue
from app.application.comparison import Comparisons
from app.application.health import Readiness
from app.application.keys import Keys
from app.application.predictions import Predictions
from app.application.statistics import Statistics
from app.infrastructure.catalogue_store import CatalogueStore
from app.infrastructure.database import Database
from app.infrastructure.key_store import KeyStore
from app.infrastructure.prediction_store import PredictionStore
from app.infrastructure.schema import MIGRATIONS, Schema
from app.infrastructure.statistics_store import StatisticsStore
from app.infrastructure.tables import metadata
from app.lifetime import is_stopping
from app.presentation import (
    api,
    batches,
    catalogue,
    comparison,
    docs,
    errors,
    predictions,
    request_log,
    security,
    service,
    statistics,
)
from app.presentation.services import EXTENSION, Services


def create_app(config: configuration.Config | None = None) -> Flask:
    """Make the application. Raises ConfigurationError."""
    config = config or configuration.load()
    logging.configure(debug=config.debug)
    app = Flask("app", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = config.max_body_bytes
    app.extensions["predlog.slots"] = batches.Slots(config.batches_at_once)
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.json.ensure_ascii = False  # type: ignore[attr-defined]
    url = config.database_url or cli.embedded_database_url(config)
    database = Database(url, **_pool(config))
    counts = Statistics(StatisticsStore(database))
    app.extensions[EXTENSION] = Services(
        predictions=Predictions(PredictionStore(database)),
        statistics=counts,
        comparisons=Comparisons(counts),
        catalogue=Catalogue(CatalogueStore(database), counts),
        readiness=Readiness(Schema(database), is_stopping),
        keys=Keys(KeyStore(database)),
    )
    _migrations(app, url)
    _http(app, config)
    cli.register(app, database, config)
    return app


def _pool(config: configuration.Config) -> dict[str, object]:
    limits = f"-c statement_timeout={config.statement_timeout_ms} -c lock_timeout={config.lock_timeout_ms}"
    return {
        "pool_size": config.pool_size,
        "max_overflow": 0,
        "pool_timeout": config.pool_timeout_s,
        "hide_parameters": True,
        "connect_args": {
            "connect_timeout": 3,
            "application_name": "predlog",
            # The statements are short: compiling them would take longer than they do.
            "options": f"-c timezone=UTC -c jit=off {limits}",
        },
    }


def _migrations(app: Flask, url: str) -> None:
    """Flask-Migrate wants Flask-SQLAlchemy; nothing else here does."""
    app.config["SQLALCHEMY_DATABASE_URI"] = url
    db = SQLAlchemy(metadata=metadata)
    db.init_app(app)
    Migrate(app, db, directory=str(MIGRATIONS), compare_type=True, compare_server_default=True)


def _http(app: Flask, config: configuration.Config) -> None:
    request_log.register(app)
    if config.auth != configuration.NO_AUTH:
        security.register(app)
    smorest = api.create_api(app, service.VERSION, service.DESCRIPTION)
    errors.register(app)
    for resource in (service, predictions, batches, statistics, comparison, catalogue):
        smorest.register_blueprint(resource.blp)
    docs.register(app)
    if config.cors_origins:
        CORS(app, origins=list(config.cors_origins), expose_headers=["Link", "X-Request-ID", "Retry-After"])
