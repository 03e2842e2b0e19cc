"""Wait for the database, migrate it, and check who may send requests: all that comes before the first request.

`python -m app` runs it as a process, which has the owner's password and ends when all is prepared.
"""

from __future__ import annotations

import sys
import time

from sqlalchemy.exc import DBAPIError

from app import logging
from app.infrastructure.postgres.database import Database
from app.infrastructure.postgres.session_settings import WrongEncoding
from app.server import startup_check
from app.server.waiting import wait
from app.wiring import migrations
from config import Config, ConfigurationError, load

NO_MIGRATE = "--no-migrate"


def main() -> int:
    """Return the exit code: 0 if the service can serve."""
    wait()
    try:
        config = load()
        logging.configure(debug=config.debug)
        url = config.database_url or ""
        if NO_MIGRATE not in sys.argv:
            _wait_for_database(config, config.database_direct_url or url)
            migrations.apply(config)
        _wait_for_database(config, url)
        startup_check.check(config, url)
    except ConfigurationError as error:
        print(f"predlog: {error}", file=sys.stderr)
        return 2
    return 0


def _wait_for_database(config: Config, url: str) -> None:
    """Wait for the database, which may start at the same time as the service and take a moment longer."""
    database = Database(url, pool_size=1, connect_args={"connect_timeout": 3})
    until = time.monotonic() + config.start_timeout_s
    try:
        while True:
            try:
                database.engine.connect().close()
                return
            except WrongEncoding as error:
                raise ConfigurationError(str(error)) from None
            except DBAPIError as error:
                if time.monotonic() > until:
                    reason = str(error.orig).strip()
                    raise ConfigurationError(f"the database is not available: {reason}") from None
            time.sleep(0.5)
    finally:
        database.engine.dispose()


if __name__ == "__main__":
    sys.exit(main())
