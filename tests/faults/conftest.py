"""A migrated database of a server of the test's own, which it may break.

FAULT_SECONDS says how long the load runs before and after a fault; if it is set, both engines are tested.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import cast

import pytest
from flask_migrate import upgrade

from app.infrastructure.embedded.account import choose_account
from app.infrastructure.embedded.binaries import find_binaries
from conftest import make_app
from support.databases import native
from support.replication import PLAIN, PostgresServer

ENGINES = ["plain", "timescale"] if "FAULT_SECONDS" in os.environ else ["plain"]

Make = Callable[[Path], PostgresServer]


@pytest.fixture(autouse=True)
def linux() -> None:
    if sys.platform != "linux":
        pytest.skip("finds processes in /proc")


@pytest.fixture(scope="session")
def load_s() -> float:
    """How long the load runs before and after a fault."""
    return float(os.environ.get("FAULT_SECONDS", "1"))


@pytest.fixture(scope="session")
def servers_of_their_own() -> Iterator[Callable[[str], Make]]:
    """Makes the maker of servers of an engine: each is a copy of one that was migrated."""
    made: dict[str, Make] = {}
    with ExitStack() as stack:

        def maker(engine: str) -> Make:
            if engine not in made:
                made[engine] = stack.enter_context(_maker(engine))
            return made[engine]

        yield maker


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    """The storage engine."""
    return str(request.param)


@pytest.fixture
def server(engine: str, public_folder: Path, servers_of_their_own: Callable[[str], Make]) -> Iterator[PostgresServer]:
    """A migrated server, which is started."""
    server = servers_of_their_own(engine)(public_folder / "database")
    server.start()
    yield server
    server.stop(signal.SIGQUIT)


@contextmanager
def _maker(engine: str) -> Iterator[Make]:
    folder = Path(tempfile.mkdtemp(prefix="predlog-faults-"))
    account = choose_account(folder / "none")
    if account.borrowed:
        os.chown(folder, account.uid, account.gid)
    folder.chmod(0o755)
    if engine == "plain":
        programs, settings = find_binaries().within_reach_of(account, folder / "programs").bin, PLAIN
    elif native.why_not() is None:
        programs, settings = cast(Path, native.binaries()), {**native.SETTINGS, "synchronous_commit": "on"}
    else:
        pytest.skip(str(native.why_not()))
    assert programs is not None
    password = secrets.token_hex(16)

    def server(folder: Path) -> PostgresServer:
        return PostgresServer(programs, account, folder, password, settings)

    def copy(place: Path) -> PostgresServer:
        subprocess.run(["cp", "-a", folder / "migrated", place], check=True)
        return server(place)

    try:
        migrated = server(folder / "migrated")
        migrated.initialise()
        migrated.start()
        try:
            with make_app(migrated.url).app_context():
                upgrade()
        finally:
            migrated.stop()
        yield copy
    finally:
        shutil.rmtree(folder, ignore_errors=True)
