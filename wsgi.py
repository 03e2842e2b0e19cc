"""The WSGI entry point: `wsgi:app` for any WSGI server and for the `flask` command."""

import os
import sys

from app.commands.extensions import MAINTENANCE
from app.factory import create_app
from app.infrastructure.roles import reader_limits
from app.presentation.middleware import concurrency
from app.server import alert_loop, idle_connections
from app.server.process_lifecycle import FOLDER, end_with_master
from config import ConfigurationError, load

try:
    config = load()
    if FOLDER in os.environ:  # started by `python -m app`
        end_with_master()
    app = create_app(config)
    if FOLDER in os.environ:
        limits = idle_connections.Limits(config.request_timeout_s, config.connections, config.connections_per_address)
        idle_connections.watch(config.port, limits, app.extensions[concurrency.EXTENSION].at_work)
    reader_limits.watch(app.extensions[MAINTENANCE][0].engine)
    if "FLASK_RUN_FROM_CLI" not in os.environ:  # a command leaves the alerts to the service
        alert_loop.watch(app)
except ConfigurationError as error:
    sys.exit(f"predlog: {error}")
