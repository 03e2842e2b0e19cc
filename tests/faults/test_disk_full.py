"""A full disk of PostgreSQL: 503 until there is space, and nothing that was acknowledged is lost."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import psycopg2
import pytest
from sqlalchemy import make_url

from app.infrastructure.embedded.account import choose_account
from faults import processes
from faults.load import Load, connect, count_again, statistics
from support.replication import PostgresServer
from support.service import running

MEGABYTE = 2**20


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A file system of so many megabytes, which belongs to whom PostgreSQL runs as."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small file system")
    folder.mkdir()
    account = choose_account(folder / "none")
    options = f"size={megabytes}m,mode=0700,uid={account.uid},gid={account.gid}"
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no small file system can be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


@contextmanager
def full(disk: Path) -> Iterator[None]:
    """A disk without a byte left, for as long as the block lasts."""
    ballast = disk / "ballast"
    try:
        with ballast.open("wb", buffering=0) as file, suppress(OSError):
            while file.write(bytes(MEGABYTE)):
                pass
        yield
    finally:
        ballast.unlink(missing_ok=True)


def test_a_full_tablespace_stops_the_writers_alone(
    server: PostgresServer, engine: str, public_folder: Path, tmp_path: Path, model: str, load_s: float
) -> None:
    with small_disk(public_folder / "small", 128) as disk:
        with closing(connect(server.url)) as connection, connection.cursor() as cursor:
            cursor.execute(f"CREATE TABLESPACE small LOCATION '{disk}'")
            cursor.execute("CREATE DATABASE small TEMPLATE template0 TABLESPACE small")
        url = make_url(server.url).set(database="small").render_as_string(hide_password=False)
        try:
            with running(tmp_path, DATABASE_URL=url, AUTH="none") as service:
                supervisor = processes.master(service)
                with Load(model, [service.port], padding=2000) as load:
                    load.go_on(load_s)
                    with full(disk):
                        load.wait_until_refused(time.monotonic())
                        acknowledged = len(load.acknowledged)
                        assert statistics(service, model)["total_requests"] >= acknowledged
                        assert service.request("GET", f"/api/v1/predictions?model_name={model}")[0] == 200
                        assert service.request("GET", "/ready")[0] == 200
                        time.sleep(load_s)
                        load.wait_until_refused(time.monotonic())
                    moment = time.monotonic()
                    load.go_on(load_s)
                    count_again(f"tablespace full, {engine}", load, url, service, moment)
                assert processes.master(service) == supervisor, "it was never restarted"
        finally:
            server.stop()  # no file may be open on the disk when it is unmounted


def test_a_server_that_cannot_write_its_log_loses_nothing(
    engine: str, servers_of_their_own: Callable[[str], Callable[[Path], PostgresServer]],
    public_folder: Path, tmp_path: Path, model: str, load_s: float,
) -> None:  # fmt: skip
    """PostgreSQL panics then; the test starts it again when there is space."""
    with small_disk(public_folder / "small", 320) as disk:
        server = servers_of_their_own(engine)(disk / "database")
        server.start(min_wal_size="32MB", max_wal_size="48MB")
        try:
            with (
                running(tmp_path, "--no-migrate", DATABASE_URL=server.url, AUTH="none") as service,
                Load(model, [service.port]) as load,
            ):
                load.go_on(load_s)
                with full(disk):
                    first = processes.children(processes.postmaster(server.folder))
                    _use_up_the_log(server.url)
                    processes.wait_until_gone(*first)  # all backends restart, and the postmaster itself lives on
                    load.wait_until_refused(time.monotonic())
                    assert service.request("GET", "/health")[0] == 200
                server.stop()
                moment = time.monotonic()
                server.start()
                load.go_on(load_s)
                count_again(f"no space for the write-ahead log, {engine}", load, server.url, service, moment)
        finally:
            server.stop()


def _use_up_the_log(url: str) -> None:
    """Begin new files of the log until there is no space for one."""
    with pytest.raises(psycopg2.OperationalError), closing(connect(url)) as connection:
        while True:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_logical_emit_message(false, 'fill', repeat('x', 1000)), pg_switch_wal()")
