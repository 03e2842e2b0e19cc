"""`predlog-server`, or `python -m app`: database, migrations, workers, in this order, and back again at the end.

With a command as its first argument, such as `keys list`, it runs that command of `flask --app wsgi`.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import FrameType

from flask.cli import cli as flask_commands
from sqlalchemy.exc import DBAPIError

from app.infrastructure.embedded import EmbeddedPostgres, EmbeddedPostgresError
from app.infrastructure.postgres.database import Database
from app.infrastructure.postgres.session_settings import WrongEncoding
from app.presentation.version import __version__
from app.server import alert_loop, idle_connections, listening, process_lifecycle, startup_check
from app.settings.pages import help_text
from config import Config, ConfigurationError, load

# By its file, because the working directory may have a module of the same name.
WSGI = str(Path(sys.modules[Config.__module__].__file__ or "").with_name("wsgi.py"))
MAX_RESTARTS = 5
STEADY_S = 30
# The bytes that the server buffers of an unread answer, and accepts of a request's headers.
BUFFER_BYTES = 64 * 1024
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stop(Exception):
    """A signal asked the service to stop."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def main() -> int:
    """Serve, or run the command that the first argument names; returns the exit code."""
    words = sys.argv[1:]
    if words and not words[0].startswith("-"):
        return flask_commands.main(["--app", WSGI, *words], prog_name="predlog-server")
    return serve(_arguments())


def serve(arguments: argparse.Namespace) -> int:
    """Serve until a signal comes.

    Return an exit code, which is not 0 if the service could not start or keep running.
    """
    for number in SIGNALS:
        signal.signal(number, _raise_stop)
    try:
        config = load()
        alert_loop.check(config)
        # Checked here, because starting a database first would delay the error.
        config = replace(config, host=listening.address(config.host, config.port))
        with _database(config), _folder():
            url = config.database_url or os.environ["DATABASE_URL"]
            if arguments.migrate:
                _wait_for_database(config, config.database_direct_url or os.environ.get("DATABASE_DIRECT_URL") or url)
                _migrate()
            _wait_for_database(config, url)
            startup_check.check(config, url)
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
        prog="predlog-server",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Serve Predlog, or run a command. Settings are in the environment and in .env.",
        epilog="Commands: db, dropped, grafana, keys, lifecycle, predictions, roles, stats.\n"
        "`predlog-server keys --help` says what one of them does.\n" + help_text(),
    )
    parser.add_argument("--version", action="version", version=f"Predlog {__version__}")
    parser.add_argument("--no-migrate", dest="migrate", action="store_false", help="the database is migrated elsewhere")
    return parser.parse_args()


def _raise_stop(number: int, frame: FrameType | None) -> None:
    raise Stop(number)


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
    """Make the folder in which all processes of the service see which phase of the shutdown has begun."""
    # In memory if possible, because a full disk must stop neither the figures of /metrics nor the service.
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK | os.X_OK) else None
    with tempfile.TemporaryDirectory(prefix="predlog-", dir=memory) as folder:
        os.environ[process_lifecycle.FOLDER] = folder
        yield


def _wait_for_database(config: Config, url: str) -> None:
    """Wait for the database, which may start at the same time as the service and take a moment longer."""
    database = Database(url, pool_size=1, connect_args={"connect_timeout": 3})
    until = time.monotonic() + config.start_timeout_s
    try:
        while True:
            try:
                database.engine.connect().close()
                return
            except WrongEncoding as error:
                raise ConfigurationError(str(error)) from None
            except DBAPIError as error:
                if time.monotonic() > until:
                    reason = str(error.orig).strip()
                    raise ConfigurationError(f"the database is not available: {reason}") from None
            time.sleep(0.5)
    finally:
        database.engine.dispose()


def _migrate() -> None:
    for command in (("db", "upgrade"), ("lifecycle", "apply")):
        subprocess.run([sys.executable, "-m", "flask", "--app", WSGI, *command], check=True)


def _serve(config: Config) -> int:
    """Keep the WSGI server running. It has a session of its own, so that Ctrl-C reaches this process first."""
    threads = str(config.connections + idle_connections.SPARE)
    command = [
        *(sys.executable, "-m", "granian", "wsgi:app", "--interface", "wsgi", "--no-ws"),
        *("--host", config.host, "--port", str(config.port)),
        # A thread for each connection: many threads wait for slow clients, and THREADS of them work at once.
        *("--workers", str(config.workers), "--backpressure", threads, "--blocking-threads", threads),
        *("--http", "1", "--http1-buffer-size", str(BUFFER_BYTES)),
        *("--respawn-failed-workers", "--workers-kill-timeout", "20", "--log-level", "error"),
    ]
    figures = os.path.join(os.environ[process_lifecycle.FOLDER], "metrics")
    os.mkdir(figures)
    # The owner's password is for migrations and commands; the workers do not need it.
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": figures, "DATABASE_DIRECT_URL": ""}
    server: subprocess.Popen[bytes] | None = None
    failures = 0
    try:
        while failures < MAX_RESTARTS:
            began = time.monotonic()
            server = subprocess.Popen(
                command, env=environment, start_new_session=True, preexec_fn=process_lifecycle.die_with_parent
            )
            print(f"Predlog: {listening.url(config.host, config.port)} (Ctrl-C stops it)", file=sys.stderr)
            server.wait()
            print(f"predlog: the server ended with {server.returncode}, starting it again", file=sys.stderr)
            failures = 0 if time.monotonic() - began > STEADY_S else failures + 1
            time.sleep(1)
        return 1
    except Stop as stop:
        _ignore_signals()
        process_lifecycle.begin(process_lifecycle.UNREADY)
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
    process_lifecycle.begin(process_lifecycle.END)
    server.send_signal(signal.SIGTERM)
    try:
        server.wait(timeout=25)
    except subprocess.TimeoutExpired:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


if __name__ == "__main__":
    sys.exit(main())
