"""Predlog: a prediction log for machine-learning services.

create_app() is the one place that knows every layer and wires them, with the parts in app/wiring.
"""

from __future__ import annotations

from flask import Flask
from flask.json.provider import DefaultJSONProvider

import config as configuration
from app import logging
from app.application.database_stats import Watch
from app.application.dropped import Dropped
from app.application.halves import JoinedPredictions
from app.application.health import Readiness
from app.application.keys import Keys
from app.application.new_models import NewModels
from app.application.predictions import Predictions
from app.application.purge import Purge
from app.commands import maintenance
from app.infrastructure.database_stats_store import PostgresDatabaseStatsStore
from app.infrastructure.dropped_store import PostgresDroppedStore
from app.infrastructure.half_store import PostgresHalfStore
from app.infrastructure.key_store import PostgresKeyStore
from app.infrastructure.name_store import PostgresNameStore
from app.infrastructure.postgres import pool
from app.infrastructure.postgres.schema import PostgresSchema
from app.infrastructure.prediction_store import PostgresPredictionStore
from app.infrastructure.purge_store import PostgresPurgeStore
from app.presentation import export_stream, intake
from app.presentation.cloudevents.decoder import EventDecoder
from app.presentation.cloudevents.inference import EventMapping
from app.presentation.middleware.unread_body import Application
from app.presentation.otlp.spans import SpanMapping
from app.presentation.resources import cloudevents, metrics, traces
from app.presentation.services import EXTENSION, Services
from app.server.process_lifecycle import is_stopping
from app.wiring import alerts, databases, http, migrations
from app.wiring.embedded_database import with_embedded_database
from app.wiring.pools import open_pool


def create_app(config: configuration.Config | None = None) -> Flask:
    """Make the application. Raises ConfigurationError."""
    config = config or configuration.load()
    logging.configure(debug=config.debug)
    app = Application("app", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = config.max_body_bytes
    app.extensions[intake.BATCH_PERMITS] = intake.BatchPermits(config.max_concurrent_batches)
    app.extensions[export_stream.EXTENSION] = export_stream.Exports(
        config.max_concurrent_exports, config.export_timeout_s, is_stopping
    )
    app.extensions[traces.MAPPING] = SpanMapping(
        config.otlp_model_attributes, config.otlp_version_attributes, config.otlp_metadata_attributes
    )
    events = EventMapping(
        config.cloudevents_model_attributes,
        config.cloudevents_version_attributes,
        config.cloudevents_metadata_attributes,
    )
    app.extensions[cloudevents.MAPPING] = events
    app.extensions[cloudevents.DECODER] = EventDecoder(events.names)
    app.json = _json(app)
    if config.database_url is None:
        config = with_embedded_database(config)
    url = config.database_url or ""
    meters = metrics.register(app, config.pool_size)
    database = open_pool(url, config)
    pool.attach(meters.pool("primary"), database.engine)
    direct = open_pool(config.database_direct_url, config) if config.database_direct_url else database
    readers = databases.readers(database, config, meters)
    log = Predictions(PostgresPredictionStore(database))
    app.extensions[EXTENSION] = Services(
        predictions=log,
        joined_predictions=JoinedPredictions(PostgresHalfStore(database), log, config.cloudevents_wait),
        dropped=Dropped(PostgresDroppedStore(database)),
        readers=readers,
        readiness=Readiness(PostgresSchema(database), is_stopping),
        keys=Keys(PostgresKeyStore(database, direct)),
        watch=Watch(PostgresDatabaseStatsStore(database).read),
        new_models=NewModels(PostgresNameStore(database), config.max_new_models_per_day),
        purge=Purge(PostgresPurgeStore(direct)),
        alerts=alerts.make(app, readers, url, config),
    )
    migrations.register(app, config.database_direct_url or url)
    http.register(app, config)
    maintenance.register(app, direct, config)
    return app


def _json(app: Flask) -> DefaultJSONProvider:
    """Keys in the order of the schemas, and every letter as itself."""
    provider = DefaultJSONProvider(app)
    provider.sort_keys = provider.ensure_ascii = False
    return provider
