"""PgBouncer in transaction mode on loopback, in front of a database."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg2
from sqlalchemy import make_url

from app.infrastructure.embedded.account import choose_account
from app.server.process_lifecycle import die_with_parent
from support.ports import free_port

TIMEOUT = 60.0
PLACES = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin", "/opt/homebrew/bin"])

# As docs/replica-and-pgbouncer.md has it, but for a wait that suits busy machines: nothing in it is for Predlog alone.
SETTINGS = """
[databases]
{database} = host={host} port={port} dbname={database}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen_port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {folder}/users
pool_mode = transaction
default_pool_size = {size}
max_client_conn = 200
query_wait_timeout = 60
server_login_retry = 1
"""


def program() -> str | None:
    """Return the path of PgBouncer, if it is installed."""
    return shutil.which("pgbouncer", path=PLACES)


@contextmanager
def pgbouncer(url: str, size: int = 3) -> Iterator[str]:
    """The URL that leads to the database through a PgBouncer with so many connections to the server."""
    address, listen_port = make_url(url), free_port()
    folder = Path(tempfile.mkdtemp(prefix="predlog-pgbouncer-"))
    account = choose_account(folder / "none")  # it refuses to run as root
    (folder / "users").write_text(f'"{address.username}" "{address.password}"\n')
    parts = {"database": address.database, "host": address.host, "port": address.port, "folder": folder}
    (folder / "pgbouncer.ini").write_text(SETTINGS.format(**parts, listen_port=listen_port, size=size))
    if account.borrowed:
        for path in (folder, *folder.iterdir()):
            os.chown(path, account.uid, account.gid)
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            [str(program()), folder / "pgbouncer.ini"],
            cwd="/", stdout=log, stderr=log, preexec_fn=die_with_parent, **account.process_options,
        )  # fmt: skip
    pooled = address.set(host="127.0.0.1", port=listen_port).render_as_string(hide_password=False)
    try:
        _wait(process, pooled, folder / "log")
        yield pooled
    finally:
        process.terminate()
        process.wait(timeout=TIMEOUT)
        shutil.rmtree(folder, ignore_errors=True)


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    until = time.monotonic() + TIMEOUT
    while True:
        try:
            psycopg2.connect(url.replace("+psycopg2", ""), connect_timeout=30).close()
            return
        except psycopg2.OperationalError as error:
            if process.poll() is not None or time.monotonic() > until:
                raise AssertionError(f"PgBouncer did not start: {error}\n{log.read_text()}") from None
        time.sleep(0.05)
