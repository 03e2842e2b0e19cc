"""PostgreSQL servers on loopback whose superuser a test may be, from the programs that an engine has here."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg2

from app.infrastructure.embedded.account import Account, choose_account
from app.infrastructure.embedded.binaries import find_binaries
from app.server.process_lifecycle import die_with_parent
from support.databases import native
from support.ports import free_port

TIMEOUT = 120.0
PLAIN = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "off",  # the data is thrown away anyway
    "full_page_writes": "off",
}
STANDBY = {"wal_retrieve_retry_interval": "200ms", "max_standby_streaming_delay": "200ms"}


class PostgresServer:
    """A server in a folder of its own. It ends with the process that started it."""

    def __init__(self, programs: Path, account: Account, folder: Path, password: str, settings: dict[str, str]) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"postgresql+psycopg2://predlog:{password}@127.0.0.1:{self.port}/postgres"
        self._programs = programs
        self._account = account
        self._settings = settings
        self._password = password
        self._process: subprocess.Popen[bytes] | None = None

    def initialise(self, *options: str) -> None:
        """Make an empty cluster, with these options of initdb."""
        passwords = self.folder.with_suffix(".password")
        passwords.write_text(self._password)
        self._run("initdb", "--username=predlog", "--auth=scram-sha-256", f"--pwfile={passwords}", "--locale=C",
                  "--encoding=UTF8", "--no-sync", *options)  # fmt: skip

    @property
    def pid(self) -> int | None:
        """The process that all others of the server descend from; None if it does not run."""
        return self._process.pid if self._process else None

    @property
    def programs(self) -> Path:
        """The folder of psql, pg_dump and so on."""
        return self._programs

    def take(self, backup: Path) -> None:
        """Have a base backup as data directory."""
        shutil.move(backup, self.folder)
        for path in (self.folder, *self.folder.rglob("*")):
            if self._account.borrowed:
                os.chown(path, self._account.uid, self._account.gid)

    def follow(self, primary: PostgresServer) -> None:
        """Copy another server, to stream from it once started."""
        address = f"host=127.0.0.1 port={primary.port} user=predlog password={self._password}"
        self._run("pg_basebackup", f"--dbname={address}", "--checkpoint=fast", "--write-recovery-conf", "--no-sync")

    def start(self, *, wait: bool = True, **more: str) -> None:
        """Start it, with more settings for this once, and wait until it takes connections."""
        settings = {**self._settings, **more, "port": str(self.port)}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with self.folder.with_suffix(".log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", self.folder, *options],
                cwd="/", stdout=log, stderr=log, start_new_session=True, preexec_fn=die_with_parent,
                **self._account.process_options,
            )  # fmt: skip
        if wait:
            self.wait()

    def stop(self, number: int = signal.SIGINT) -> None:
        """Shut it down (SIGINT: fast) if it runs."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(timeout=TIMEOUT)
            self._process = None

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [self._programs / program, f"--pgdata={self.folder}", *arguments],
            cwd="/", check=True, capture_output=True, **self._account.process_options,
        )  # fmt: skip

    def wait(self) -> None:
        """Wait until it takes connections."""
        until = time.monotonic() + TIMEOUT
        while True:
            try:
                psycopg2.connect(self.url.replace("+psycopg2", ""), connect_timeout=30).close()
                return
            except psycopg2.OperationalError as error:
                assert self._process is not None
                ended = self._process.poll() is not None
                if ended or time.monotonic() > until:
                    log = self.folder.with_suffix(".log").read_text()
                    raise AssertionError(f"PostgreSQL did not start: {error}\n{log}") from None
            time.sleep(0.05)


@contextmanager
def plain_server() -> Iterator[PostgresServer]:
    """An empty server from the embedded one's wheel, started, and gone afterwards."""
    with _servers("plain") as (server, _):
        server.initialise()
        server.start()
        yield server


@contextmanager
def primary_and_replica(engine: str) -> Iterator[tuple[PostgresServer, PostgresServer]]:
    """Both started, and gone afterwards: from the embedded server's wheel, or TimescaleDB from this machine's."""
    with _servers(engine) as (primary, replica):
        primary.initialise()
        primary.start()
        replica.follow(primary)
        replica.start()
        yield primary, replica


@contextmanager
def server_and_another(engine: str) -> Iterator[tuple[PostgresServer, PostgresServer]]:
    """One that is empty and started, and one that has no data directory yet."""
    with _servers(engine) as (server, other):
        server.initialise()
        server.start()
        yield server, other


@contextmanager
def _servers(engine: str) -> Iterator[tuple[PostgresServer, PostgresServer]]:
    folder = Path(tempfile.mkdtemp(prefix="predlog-replication-"))
    account = choose_account(folder / "none")
    if account.borrowed:
        os.chown(folder, account.uid, account.gid)
    if engine == "timescale":
        # What was acknowledged is on its way to the replica.
        programs, settings = native.binaries(), {**native.SETTINGS, "synchronous_commit": "on"}
    else:
        programs, settings = find_binaries().within_reach_of(account, folder / "programs").bin, {**PLAIN}
    assert programs is not None
    password = secrets.token_hex(16)
    primary = PostgresServer(programs, account, folder / "primary", password, settings)
    replica = PostgresServer(programs, account, folder / "replica", password, settings | STANDBY)
    try:
        yield primary, replica
    finally:
        replica.stop(signal.SIGQUIT)
        primary.stop(signal.SIGQUIT)
        shutil.rmtree(folder, ignore_errors=True)
