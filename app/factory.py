"""Predlog: a prediction log for machine-learning services.

create_app() is the one place that knows every layer and wires them.
"""

from __future__ import annotations

from dataclasses import replace

import structlog
from flask import Flask
from flask.json.provider import DefaultJSONProvider
from flask_cors import CORS
from flask_migrate import Migrate
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import make_url

import config as configuration
from app import logging
from app.application.alert_delivery import Delivery
from app.application.alerts import Alerts
from app.application.catalogue import Catalogue
from app.application.comparison import Comparisons
from app.application.database_stats import Watch
from app.application.dropped import Dropped
from app.application.halves import JoinedCalls
from app.application.health import Readiness
from app.application.keys import Keys
from app.application.model_statistics import ModelStatistics
from app.application.new_models import NewModels
from app.application.predictions import Predictions
from app.application.purge import Purge
from app.application.replica_routing import Reader, Readers, ReplicaStatistics
from app.application.statistics import Statistics
from app.commands import alerts as alert_commands
from app.commands import maintenance
from app.domain.errors import PredlogError
from app.domain.hosts import ANY, AllowedHosts, origin_pattern
from app.domain.rate import Rate
from app.infrastructure import export_store
from app.infrastructure.alerts import file as alert_file
from app.infrastructure.alerts.store import PostgresAlertStore
from app.infrastructure.alerts.webhooks import Webhooks
from app.infrastructure.catalogue_store import PostgresCatalogueStore
from app.infrastructure.database_stats_store import PostgresDatabaseStatsStore
from app.infrastructure.dropped_store import PostgresDroppedStore
from app.infrastructure.error_store import PostgresErrorStore
from app.infrastructure.export_store import PostgresPredictionExport
from app.infrastructure.half_store import PostgresHalfStore
from app.infrastructure.key_store import PostgresKeyStore
from app.infrastructure.name_store import PostgresNameStore
from app.infrastructure.postgres import pool
from app.infrastructure.postgres.database import Database, only_to_the_host
from app.infrastructure.postgres.schema import MIGRATIONS, PostgresSchema
from app.infrastructure.postgres.statement_watchdog import GRACE_S
from app.infrastructure.prediction_list import PostgresPredictionList
from app.infrastructure.prediction_store import PostgresPredictionStore
from app.infrastructure.purge_store import PostgresPurgeStore
from app.infrastructure.rate_table import RateTable
from app.infrastructure.replica import StreamingReplica
from app.infrastructure.segment_memory import segment_memory
from app.infrastructure.statistics_store import PostgresStatisticsStore
from app.infrastructure.tables import metadata
from app.presentation import api, errors, export_stream, intake
from app.presentation.cloudevents.decoder import EventDecoder
from app.presentation.cloudevents.inference import EventMapping
from app.presentation.dashboard import pages
from app.presentation.instruments import Meters
from app.presentation.middleware import (
    access_log,
    allowed_hosts,
    authentication,
    concurrency,
    rate_limit,
    response_headers,
)
from app.presentation.middleware.unread_body import Application
from app.presentation.otlp.spans import SpanMapping
from app.presentation.resources import (
    alerts,
    batches,
    catalogue,
    cloudevents,
    comparison,
    docs,
    dropped,
    error_groups,
    export,
    health,
    histogram,
    metrics,
    model_statistics,
    predictions,
    purge,
    statistics,
    traces,
)
from app.presentation.services import EXTENSION, Services
from app.presentation.version import __version__
from app.server.process_lifecycle import is_stopping, shared_file

log = structlog.get_logger(__name__)


def create_app(config: configuration.Config | None = None) -> Flask:
    """Make the application. Raises ConfigurationError."""
    config = config or configuration.load()
    logging.configure(debug=config.debug)
    app = Application("app", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = config.max_body_bytes
    app.extensions["predlog.batch_permits"] = intake.BatchPermits(config.max_concurrent_batches)
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
        config = maintenance.with_embedded_database(config)
    url = config.database_url or ""
    meters = metrics.register(app, config.pool_size)
    database = _database(url, config)
    pool.attach(meters.pool("primary"), database.engine)
    direct = _database(config.database_direct_url, config) if config.database_direct_url else database
    readers = _readers(database, config, meters)
    log = Predictions(PostgresPredictionStore(database))
    app.extensions[EXTENSION] = Services(
        predictions=log,
        joined_calls=JoinedCalls(PostgresHalfStore(database), log, config.cloudevents_wait),
        dropped=Dropped(PostgresDroppedStore(database)),
        readers=readers,
        readiness=Readiness(PostgresSchema(database), is_stopping),
        keys=Keys(PostgresKeyStore(database, direct)),
        watch=Watch(PostgresDatabaseStatsStore(database).read),
        new_models=NewModels(PostgresNameStore(database), config.max_new_models_per_day),
        purge=Purge(PostgresPurgeStore(direct)),
        alerts=_alerts(app, readers, url, config),
    )
    _migrations(app, config.database_direct_url or url)
    _http(app, config)
    maintenance.register(app, direct, config)
    return app


def _json(app: Flask) -> DefaultJSONProvider:
    """Keys in the order of the schemas, and every letter as itself."""
    provider = DefaultJSONProvider(app)
    provider.sort_keys = provider.ensure_ascii = False
    return provider


def _database(url: str, config: configuration.Config, *, for_export: bool = False) -> Database:
    settings = {
        # The statements are short: JIT compilation or parallel workers would take longer than the statements.
        "jit": "off",
        "max_parallel_workers_per_gather": "0",
        "statement_timeout": str(config.statement_timeout_ms),
        "lock_timeout": str(config.lock_timeout_ms),
        **(export_store.SETTINGS if for_export else {}),
    }
    return Database(
        url,
        settings,
        timeout_s=config.statement_timeout_ms / 1000 + GRACE_S,
        pool_size=config.max_concurrent_exports if for_export else config.pool_size,
        max_overflow=0,
        pool_use_lifo=True,  # the connection used last knows most of the chunks already
        pool_timeout=config.pool_timeout_s,
        hide_parameters=True,
        connect_args={
            "connect_timeout": 3,
            "application_name": "predlog",
            # The driver notices within half a minute that a server has vanished, instead of within two hours.
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 4,
            "tcp_user_timeout": 30_000,
        },
    )


def _readers(database: Database, config: configuration.Config, meters: Meters) -> Readers:
    own = Statistics(PostgresStatisticsStore(database.read), segment_memory())
    primary = _reader(database, own, config.database_url or "", config)
    if config.database_read_url is None:
        return Readers(primary)
    follower = _database(config.database_read_url, config)
    pool.attach(meters.pool("replica"), follower.engine)
    state = StreamingReplica(database, follower, config.max_replica_lag_s)
    statistics = ReplicaStatistics(PostgresStatisticsStore(follower.read), segment_memory(), state)
    return Readers(primary, _reader(follower, statistics, config.database_read_url, config), state)


def _reader(database: Database, statistics: Statistics, url: str, config: configuration.Config) -> Reader:
    names = PostgresCatalogueStore(database)
    return Reader(
        prediction_list=PostgresPredictionList(database, config.list_timeout_ms),
        statistics=statistics,
        comparisons=Comparisons(statistics),
        catalogue=Catalogue(names, statistics),
        model_statistics=ModelStatistics(names, statistics),
        error_groups=PostgresErrorStore(database, config.list_timeout_ms),
        # A pool of its own: an export holds a connection for long, and must not take one from writes or questions.
        export=PostgresPredictionExport(_database(url, config, for_export=True)),
    )


def _alerts(app: Flask, readers: Readers, url: str, config: configuration.Config) -> Alerts | None:
    """Return the alerts of ALERTS_FILE, with connections of their own so that no request waits for a webhook."""
    if config.alerts_file is None:
        return None
    try:
        file = alert_file.read(config.alerts_file)
    except alert_file.AlertFileError as error:
        raise configuration.ConfigurationError(f"ALERTS_FILE: {error}") from None
    store = PostgresAlertStore(_database(url, replace(config, pool_size=2)))
    webhooks = Webhooks(file.webhooks, config.public_url)
    alerts = Alerts(
        file.rules,
        store,
        lambda question: readers.ask(lambda reader: reader.statistics.ask(question)),
        webhooks.messages,
        file.every,
        lambda rule, error: log.warning("rule not measured", rule=rule, reason=_reason(error)),
    )
    delivery = Delivery(
        store, webhooks.send, lambda name, reason: log.warning("message not sent", webhook=name, reason=reason)
    )
    app.extensions[alert_commands.EXTENSION] = alerts, delivery, webhooks
    return alerts


def _reason(error: Exception) -> str:
    """The text of an error of ours; of any other one its kind, because its text may have in it what was sent."""
    return str(error) if isinstance(error, PredlogError) else type(error).__qualname__


def _migrations(app: Flask, url: str) -> None:
    """Give Flask-Migrate the part of Flask-SQLAlchemy that it needs."""
    app.config["SQLALCHEMY_DATABASE_URI"] = url
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = {"connect_args": only_to_the_host(make_url(url))}
    db = SQLAlchemy(metadata=metadata)
    db.init_app(app)
    Migrate(app, db, directory=str(MIGRATIONS), compare_type=True, compare_server_default=True)


def _http(app: Flask, config: configuration.Config) -> None:
    access_log.register(app)
    response_headers.register(app)
    concurrency.register(app)
    allowed_hosts.register(app, AllowedHosts(config.allowed_hosts, config.host))
    if config.auth != configuration.NO_AUTH:
        _authentication(app, config)
    if config.rate_limit:
        rate = Rate(config.rate_limit, config.rate_burst)
        rate_limit.register(app, rate_limit.RateLimit(rate, RateTable(shared_file("rates"))))
    # Flask's own way to put middleware in, which to mypy is a method that must not be replaced.
    app.wsgi_app = concurrency.ConcurrencyLimit(  # type: ignore[method-assign]
        app.wsgi_app,
        permits=config.threads,
        # A request uses one database connection at a time; reads leave a quarter of permits and connections to writes.
        reads=max(1, min(config.threads, config.pool_size) * 3 // 4),
        bodies=2 * config.max_concurrent_batches * config.max_body_bytes,
        answers=config.answer_memory_bytes,
        timeout_s=config.request_timeout_s,
    )
    smorest = api.create_api(app, __version__, health.DESCRIPTION)
    errors.register(app)
    questions = (statistics, model_statistics, error_groups, histogram, comparison, catalogue, alerts)
    for resource in (health, metrics, predictions, export, purge, batches, traces, cloudevents, dropped, *questions):
        smorest.register_blueprint(resource.blp)
    docs.register(app)
    pages.register(app)
    if config.cors_origins:
        # flask-cors would read a string with a wildcard as a regular expression, with another meaning.
        origins = [origin if origin == ANY else origin_pattern(origin) for origin in config.cors_origins]
        CORS(app, origins=origins, expose_headers=["Link", "X-Request-ID", "Retry-After"])


def _authentication(app: Flask, config: configuration.Config) -> None:
    if number := config.auth_failures_per_minute:
        limit = rate_limit.RateLimit(Rate(number / 60, number), RateTable(shared_file("auth-failures")))
        authentication.register(app, rate_limit.failures(limit))
    else:
        authentication.register(app)
