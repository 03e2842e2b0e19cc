"""The routes and their middleware."""

from __future__ import annotations

from flask import Flask
from flask_cors import CORS

from app.domain.hosts import ANY, AllowedHosts, origin_pattern
from app.domain.rate import Rate
from app.infrastructure.rate_table import RateTable
from app.presentation import api, errors
from app.presentation.dashboard import pages
from app.presentation.middleware import (
    access_log,
    allowed_hosts,
    authentication,
    concurrency,
    rate_limit,
    response_headers,
)
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
from app.presentation.version import __version__
from app.server.process_lifecycle import shared_file
from config import NO_AUTH, Config


def register(app: Flask, config: Config) -> None:
    """Attach the middleware, the API, its documentation and the dashboard."""
    access_log.register(app)
    response_headers.register(app)
    concurrency.register(app)
    allowed_hosts.register(app, AllowedHosts(config.allowed_hosts, config.host))
    if config.auth != NO_AUTH:
        _authentication(app, config)
    if config.rate_limit:
        rate = Rate(config.rate_limit, config.rate_burst)
        rate_limit.register(app, rate_limit.RateLimit(rate, RateTable(shared_file("rates"))))
    limit = app.extensions[concurrency.EXTENSION] = concurrency.ConcurrencyLimit(
        app.wsgi_app,
        permits=config.threads,
        # A request uses one database connection at a time, so reads leave a quarter of whichever is scarcer to writes.
        reads=max(1, min(config.threads, config.pool_size) * 3 // 4),
        bodies=2 * config.max_concurrent_batches * config.max_body_bytes,
        answers=config.answer_memory_bytes,
        timeout_s=config.request_timeout_s,
    )
    # Flask's own way to put middleware in, which to mypy is a method that must not be replaced.
    app.wsgi_app = limit  # type: ignore[method-assign]
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


def _authentication(app: Flask, config: Config) -> None:
    if number := config.auth_failures_per_minute:
        limit = rate_limit.RateLimit(Rate(number / 60, number), RateTable(shared_file("auth-failures")))
        authentication.register(app, rate_limit.failures(limit))
    else:
        authentication.register(app)
