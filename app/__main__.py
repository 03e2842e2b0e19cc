"""`python -m app`: database, migrations, workers, in this order, and back again at the end."""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from types import FrameType

import psycopg2
from sqlalchemy.engine import make_url

from app import admission, lifetime
from app.infrastructure.embedded import EmbeddedPostgres, EmbeddedPostgresError
from config import Config, ConfigurationError, load

RESTARTS_AT_MOST = 5
STEADY_S = 30
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stop(Exception):
    """A signal asked us to stop."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def main() -> int:
    """Serve until a signal comes; the exit code is not 0 where the service could not be started or kept up."""
    arguments = _arguments()
    for number in SIGNALS:
        signal.signal(number, _raise_stop)
    try:
        config = load()
        _check_port(config)
        with _database(config), _folder():
            url = config.database_url or os.environ["DATABASE_URL"]
            if arguments.migrate:
                _wait_for_database(config, config.database_direct_url or os.environ.get("DATABASE_DIRECT_URL") or url)
                _migrate()
            _wait_for_database(config, url)
            admission.check(config, url)
            return _serve(config)
    except (ConfigurationError, EmbeddedPostgresError) as error:
        print(f"predlog: {error}", file=sys.stderr)
        return 2
    except subprocess.CalledProcessError as error:
        print(f"predlog: the migrations failed (exit code {error.returncode})", file=sys.stderr)
        return 1
    except Stop:
        return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m app", description="Serve Predlog; settings are in the environment."
    )
    parser.add_argument("--no-migrate", dest="migrate", action="store_false", help="the database is migrated elsewhere")
    return parser.parse_args()


def _raise_stop(number: int, frame: FrameType | None) -> None:
    raise Stop(number)


def _check_port(config: Config) -> None:
    """Say so at once where somebody else has the port, instead of starting a database first."""
    with socket.socket(socket.AF_INET6 if ":" in config.host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((config.host, config.port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise ConfigurationError(
                    f"HOST {config.host} is no address of this machine: {error.strerror}"
                ) from None
            raise ConfigurationError(f"PORT {config.port} is in use; choose another, or end what has it") from None


@contextlib.contextmanager
def _database(config: Config) -> Iterator[None]:
    """Start the embedded server if no database is set; child processes find it in the environment."""
    if config.database_url is not None:
        yield
        return
    with EmbeddedPostgres(config.embedded_data_dir) as server:
        os.environ["DATABASE_URL"] = server.urls.service
        os.environ["DATABASE_DIRECT_URL"] = server.urls.owner
        print(f"Embedded PostgreSQL: {server.data_dir}", file=sys.stderr)
        yield


@contextlib.contextmanager
def _folder() -> Iterator[None]:
    """The folder in which all processes of the service see what phase of its end has begun."""
    # In memory, where that can be had: a full disk must neither stop the figures of /metrics nor the service with them.
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK | os.X_OK) else None
    with tempfile.TemporaryDirectory(prefix="predlog-", dir=memory) as folder:
        os.environ[lifetime.FOLDER] = folder
        yield


def _wait_for_database(config: Config, url: str) -> None:
    """A database that starts at the same time as we do may take a moment longer."""
    address = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    until = time.monotonic() + config.start_timeout_s
    while True:
        try:
            psycopg2.connect(address, connect_timeout=3).close()
            return
        except psycopg2.OperationalError as error:
            if time.monotonic() > until:
                raise ConfigurationError(f"the database is not available: {str(error).strip()}") from None
        time.sleep(0.5)


def _migrate() -> None:
    for command in (("db", "upgrade"), ("lifecycle", "apply")):
        subprocess.run([sys.executable, "-m", "flask", "--app", "wsgi", *command], check=True)


def _serve(config: Config) -> int:
    """Keep the WSGI server up. It has a session of its own, so that Ctrl-C reaches us first."""
    command = [
        *(sys.executable, "-m", "granian", "wsgi:app", "--interface", "wsgi", "--no-ws"),
        *("--host", config.host, "--port", str(config.port)),
        # A thread for each connection: those that wait for slow clients are many, those that work are THREADS.
        *("--workers", str(config.workers), "--backpressure", str(config.connections)),
        *("--blocking-threads", str(config.connections), "--http", "1"),
        *("--respawn-failed-workers", "--workers-kill-timeout", "20", "--log-level", "error"),
    ]
    figures = os.path.join(os.environ[lifetime.FOLDER], "metrics")
    os.mkdir(figures)
    # The owner's password is for migrations and commands; nobody who answers requests needs it.
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": figures, "DATABASE_DIRECT_URL": ""}
    server: subprocess.Popen[bytes] | None = None
    failures = 0
    try:
        while failures < RESTARTS_AT_MOST:
            began = time.monotonic()
            server = subprocess.Popen(
                command, env=environment, start_new_session=True, preexec_fn=lifetime.die_with_parent
            )
            print(f"Predlog: http://{config.host}:{config.port} (Ctrl-C stops it)", file=sys.stderr)
            server.wait()
            print(f"predlog: the server ended with {server.returncode}, starting it again", file=sys.stderr)
            failures = 0 if time.monotonic() - began > STEADY_S else failures + 1
            time.sleep(1)
        return 1
    except Stop as stop:
        _ignore_signals()
        lifetime.begin(lifetime.UNREADY)
        if stop.number == signal.SIGTERM:  # a load balancer needs time to see it; a person at a terminal does not
            time.sleep(config.shutdown_delay_s)
        if server is not None:
            _end(server)
        return 0


def _ignore_signals() -> None:
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _end(server: subprocess.Popen[bytes]) -> None:
    """Let requests in flight finish."""
    lifetime.begin(lifetime.END)
    server.send_signal(signal.SIGTERM)
    try:
        server.wait(timeout=25)
    except subprocess.TimeoutExpired:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


if __name__ == "__main__":
    sys.exit(main())
