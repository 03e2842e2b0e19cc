"""The WSGI entry point: `wsgi:app` for any WSGI server, and what the `flask` command finds."""

import os
import sys

from app import cli, create_app, silence
from app.infrastructure import reader_limits
from app.lifetime import FOLDER, end_with_master
from config import ConfigurationError, load

try:
    config = load()
    if FOLDER in os.environ:  # started by `python -m app`
        end_with_master()
        limits = silence.Limits(config.request_timeout_s, config.connections, config.connections_per_address)
        silence.watch(config.port, limits)
    app = create_app(config)
    reader_limits.watch(app.extensions[cli.EXTENSION][0].engine)
except ConfigurationError as error:
    sys.exit(f"predlog: {error}")
