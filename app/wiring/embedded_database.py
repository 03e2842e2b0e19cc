"""The embedded server as the database of an application that has no other."""

from __future__ import annotations

import atexit
from dataclasses import replace

from config import Config, ConfigurationError


def with_embedded_database(config: Config) -> Config:
    """Return the configuration with the address of the embedded server if DATABASE_URL is not set.

    A server that does not run yet is started for the life of this process. Raises ConfigurationError if that fails.
    """
    # The embedded server needs a POSIX system, and its wheel.
    from app.infrastructure.embedded import EmbeddedPostgres, EmbeddedPostgresError, running_urls

    try:
        urls = running_urls(config.embedded_data_dir)
        if urls is None:
            server = EmbeddedPostgres(config.embedded_data_dir)
            urls = server.start()
            atexit.register(server.stop)
    except EmbeddedPostgresError as error:
        raise ConfigurationError(str(error)) from error
    return replace(config, database_url=urls.service, database_direct_url=urls.owner)
