"""A scratch cluster of a PostgreSQL on this machine that has TimescaleDB's Community build."""

from __future__ import annotations

import functools
import os
import re
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.ports import free_port

PLACES = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
)
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "timezone": "UTC",
    "fsync": "off",  # the data is thrown away anyway
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_preload_libraries": "timescaledb",
    "timescaledb.telemetry_level": "off",
    "timescaledb.max_background_workers": "8",
    "max_worker_processes": "24",  # the launcher, a scheduler for each database, the jobs, and parallel queries
}
# The server lives as long as this shell's standard input is open: it is taken down even after a kill -9 of the tests.
KEEP = """
cd "$1"
trap 'rm -rf "$1"' EXIT
"$2/pg_ctl" start --wait --silent --pgdata=data --log=log --options="$3" >/dev/null 2>&1 || { cat log; exit 1; }
echo ready
cat >/dev/null
"$2/pg_ctl" stop --wait --silent --pgdata=data --mode=immediate >/dev/null 2>&1
"""


@functools.cache
def binaries() -> Path | None:
    """The folder with initdb and pg_ctl of the newest server that has TimescaleDB's Community build."""
    return newest(_has_community_build)


def newest(is_fit: Callable[[Path], bool]) -> Path | None:
    """The folder of programs of the newest server that is fit."""
    found = [Path(folder) for pattern in PLACES for folder in Path("/").glob(pattern.lstrip("/"))]
    found.sort(key=lambda folder: [int(number) for number in re.findall(r"\d+", str(folder))], reverse=True)
    first = shutil.which("pg_config")
    if first:
        found.insert(0, Path(_output(first, "--bindir")))
    return next((folder for folder in found if is_fit(folder)), None)


def why_not() -> str | None:
    if os.name != "posix":
        return "only on POSIX systems"
    return None if binaries() else "no local PostgreSQL has TimescaleDB's Community build"


@contextmanager
def start() -> Iterator[str]:
    folder = Path(tempfile.mkdtemp(prefix="predlog-test-"))
    bin_folder = binaries()
    assert bin_folder is not None, why_not()
    password, port = secrets.token_hex(16), free_port()
    (folder / "password").write_text(password)
    as_user = _unprivileged(folder)
    options = " ".join(f"-c {name}={value}" for name, value in {**SETTINGS, "port": port}.items())
    supervisor = None
    try:
        subprocess.run(
            [bin_folder / "initdb", "--pgdata=data", "--username=postgres", "--auth=scram-sha-256", "--encoding=UTF8",
             "--locale=C", "--pwfile=password", "--no-sync"],
            cwd=folder, check=True, capture_output=True, text=True, **as_user,
        )  # fmt: skip
        supervisor = subprocess.Popen(
            ["/bin/sh", "-c", KEEP, "keep", folder, bin_folder, options],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True, **as_user,
        )  # fmt: skip
        assert supervisor.stdin and supervisor.stdout
        if supervisor.stdout.readline().strip() != "ready":
            raise RuntimeError(f"the scratch PostgreSQL did not start: {supervisor.stdout.read()}")
        yield f"postgresql+psycopg2://postgres:{password}@127.0.0.1:{port}/postgres"
    finally:
        if supervisor:
            supervisor.communicate(timeout=60)  # closes its standard input
        shutil.rmtree(folder, ignore_errors=True)


def _has_community_build(folder: Path) -> bool:
    pg_config = folder / "pg_config"
    if not (pg_config.exists() and (folder / "initdb").exists()):
        return False
    control = extensions(folder) / "timescaledb.control"
    libraries = Path(_output(pg_config, "--pkglibdir"))
    version = re.search(r"default_version = '(.+)'", control.read_text()) if control.exists() else None
    return version is not None and any(libraries.glob(f"timescaledb-tsl-{version[1]}.*"))


def extensions(folder: Path) -> Path:
    """The folder of the control files of the server whose programs are in `folder`."""
    return Path(_output(folder / "pg_config", "--sharedir")) / "extension"


def _output(*command: str | Path) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def _unprivileged(folder: Path) -> dict[str, Any]:
    """Arguments for subprocess, since PostgreSQL refuses to run as root; the folder changes hands too."""
    if os.geteuid() != 0:
        return {}
    import pwd

    names = {entry.pw_name: entry for entry in pwd.getpwall()}
    user = names.get("postgres") or names["nobody"]
    for path in (folder, *folder.iterdir()):
        os.chown(path, user.pw_uid, user.pw_gid)
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
