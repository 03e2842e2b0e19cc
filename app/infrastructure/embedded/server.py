from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

import psycopg2.extensions

from . import roles, supervisor
from .account import ENVIRONMENT, choose_account
from .binaries import find_binaries
from .cluster import Cluster, Passwords, check_major_version
from .directory import DataDirectory, default_data_dir, read_number
from .errors import EmbeddedPostgresError

HOST = "127.0.0.1"
PORT_ATTEMPTS = 3
START_SECONDS = 300.0  # a recovery after a crash may take long
STOP_SECONDS = 90.0  # longer than the supervisor takes at most
KILLED_SECONDS = 15.0


# Another program on the port must not get the password, so libpq sends it by this method only.
REQUIRE_AUTH = "require_auth=scram-sha-256"
REQUIRE_AUTH_SINCE = 160000  # libpq


@dataclass(frozen=True)
class Urls:
    """The URLs of one database for its two roles: the owner migrates and maintains, the service logs and reads."""

    owner: str
    service: str


class EmbeddedPostgres:
    """An embedded PostgreSQL server on loopback, for as long as the `with` block, or from `start` to `stop`.

    It belongs to the process that started it: PostgreSQL is shut down when that process ends, even if it is killed. A
    forked process may use the `url`, and cannot stop the server.
    """

    def __init__(self, data_dir: Path | None = None) -> None:
        self.data_dir = Path(os.path.realpath(default_data_dir() if data_dir is None else data_dir))
        self.urls = Urls("", "")
        self._directory = DataDirectory(self.data_dir)
        self._supervisor: subprocess.Popen[bytes] | None = None
        self._owner = os.getpid()

    def __enter__(self) -> EmbeddedPostgres:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """The owner's URL; empty if the server does not run."""
        return self.urls.owner

    def start(self) -> Urls:
        """Start the server, create it first if there is none, and return its URLs when it accepts connections.

        Raises EmbeddedPostgresError.
        """
        if self._supervisor is not None:
            return self.urls
        self._owner = os.getpid()
        try:
            self.urls = self._start()
        except OSError as error:
            raise EmbeddedPostgresError(f"The embedded PostgreSQL in {self.data_dir} cannot start: {error}") from error
        return self.urls

    def stop(self) -> None:
        """Shut the server down and wait until it is gone."""
        if self._supervisor is None or self._owner != os.getpid():
            return
        if _dismiss(self._supervisor) != 0:
            self._directory.wait_until_released(KILLED_SECONDS)
        self._supervisor = None
        self.urls = Urls("", "")

    def _start(self) -> Urls:
        self._directory.prepare()
        lock = self._directory.lock()
        try:
            account = choose_account(self._directory.cluster)
            closed = account.out_of_reach(self.data_dir)
            if closed is not None:
                raise EmbeddedPostgresError(
                    f"PostgreSQL refuses to run as root, and the user {account.name}, which it runs as, may not enter "
                    f"{closed}: choose a data directory that all may enter, such as {default_data_dir()}."
                )
            binaries = find_binaries()
            check_major_version(self._directory.cluster, binaries)
            binaries = binaries.within_reach_of(account, self._directory.binaries)
            cluster = Cluster(self._directory, binaries, account, lock)
            passwords = cluster.prepare()
            port = self._launch(cluster, account.process_options, lock)
        finally:
            os.close(lock)  # the supervisor has it; a process forked from this one must not
        return _urls(passwords, port)

    def _launch(self, cluster: Cluster, account: dict[str, object], lock: int) -> int:
        port = read_number(self._directory.port_file)
        for _ in range(PORT_ATTEMPTS):
            port = _free_port(port)
            self._directory.write(self._directory.port_file, f"{port}\n")
            failure = self._keep(
                supervisor.Orders(
                    caller=os.getpid(),
                    command=cluster.command(port),
                    environment=ENVIRONMENT,
                    account=account,
                    pid_file=str(self._directory.cluster / "postmaster.pid"),
                    log_file=str(self._directory.log_file),
                    lock=lock,
                )
            )
            if failure is None:
                return port
            if _is_free(port):
                break
        raise EmbeddedPostgresError(f"PostgreSQL did not start: {failure} (its log: {self._directory.log_file})")

    def _keep(self, orders: supervisor.Orders) -> str | None:
        """Start a supervisor and wait for its answer: None if PostgreSQL accepts connections, else the reason."""
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", supervisor.__file__],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd="/",
            start_new_session=True,  # Ctrl-C must reach the caller alone, which decides the order of the stop
            pass_fds=[orders.lock],
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(json.dumps(asdict(orders)).encode() + b"\n")
            with process.stdout as answer:
                if not select.select([answer], [], [], START_SECONDS)[0]:
                    raise EmbeddedPostgresError(f"PostgreSQL is not ready after {START_SECONDS:.0f} seconds.")
                sentence = answer.readline().decode().strip()
        except BaseException:
            _dismiss(process)
            raise
        if sentence == supervisor.READY:
            self._supervisor = process
            return None
        _dismiss(process)
        return sentence or "its supervisor has died"


def running_urls(data_dir: Path | None = None) -> Urls | None:
    """Return the URLs of the server that another process of this user runs in the data directory.

    None if there is none. Raises EmbeddedPostgresError if this user cannot read the directory.
    """
    directory = DataDirectory(Path(os.path.realpath(default_data_dir() if data_dir is None else data_dir)))
    try:
        return _running_urls(directory)
    except OSError as error:
        raise EmbeddedPostgresError(f"The data directory {directory.path} cannot be read: {error}") from error


def _running_urls(directory: DataDirectory) -> Urls | None:
    port = read_number(directory.port_file)
    if port is None or not directory.in_use():
        return None
    owner, service = directory.read(directory.password_file), directory.read(directory.service_password_file)
    return _urls(Passwords(owner.strip(), service.strip()), port) if owner and service else None


def _urls(passwords: Passwords, port: int) -> Urls:
    return Urls(_url(roles.NAME, passwords.owner, port), _url(roles.SERVICE, passwords.service, port))


def _url(role: str, password: str, port: int) -> str:
    options = f"&{REQUIRE_AUTH}" if psycopg2.extensions.libpq_version() >= REQUIRE_AUTH_SINCE else ""
    return f"postgresql+psycopg2://{role}:{password}@{HOST}:{port}/{roles.NAME}?sslmode=disable{options}"


def _dismiss(process: subprocess.Popen[bytes]) -> int:
    """Tell the supervisor to shut PostgreSQL down, wait, and return its exit status: 0 if every process has ended.

    It gets a message, because it cannot see that the pipe is closed as long as a forked process has it open.
    """
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError), process.stdin as orders:
        orders.write(b"\n")
    try:
        return process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def _free_port(wanted: int | None) -> int:
    """Return the wanted port if it is free, else another free port."""
    if wanted is not None and _is_free(wanted):
        return wanted
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
    return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as PostgreSQL does: closed connections linger
        try:
            probe.bind((HOST, port))
        except (OSError, OverflowError):
            return False
    return True
