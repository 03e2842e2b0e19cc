"""`python -m app`: database, migrations, workers, in this order, and back again at the end."""

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
from pathlib import Path
from types import FrameType

from app.infrastructure.embedded import EmbeddedPostgres, EmbeddedPostgresError
from app.lifetime import STOPPING, die_with_parent
from config import Config, ConfigurationError, load

RESTARTS_AT_MOST = 5
STEADY_S = 30


class Stop(Exception):
    """A signal asked us to stop."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def main() -> int:
    """Serve until a signal comes; the exit code is not 0 where the service could not be started or kept up."""
    arguments = _arguments()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _raise_stop)
    try:
        config = load()
        with _database(config), _stop_file() as stopping:
            if arguments.migrate:
                _migrate()
            return _serve(config, stopping)
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


@contextlib.contextmanager
def _database(config: Config) -> Iterator[None]:
    """Start the embedded server where no database is set; child processes find it in DATABASE_URL."""
    if config.database_url is not None:
        yield
        return
    with EmbeddedPostgres(config.embedded_data_dir) as server:
        os.environ["DATABASE_URL"] = server.url
        print(f"Embedded PostgreSQL: {server.data_dir}", file=sys.stderr)
        yield


@contextlib.contextmanager
def _stop_file() -> Iterator[Path]:
    """A file whose existence tells every worker that the service is about to stop."""
    with tempfile.TemporaryDirectory(prefix="predlog-") as folder:
        path = Path(folder, "stopping")
        os.environ[STOPPING] = str(path)
        yield path


def _migrate() -> None:
    for command in (("db", "upgrade"), ("lifecycle", "apply")):
        subprocess.run([sys.executable, "-m", "flask", "--app", "wsgi", *command], check=True)


def _serve(config: Config, stopping: Path) -> int:
    """Keep the WSGI server up. It has a session of its own, so that Ctrl-C reaches us first."""
    command = [
        *(sys.executable, "-m", "granian", "wsgi:app", "--interface", "wsgi", "--no-ws"),
        *("--host", config.host, "--port", str(config.port)),
        *("--workers", str(config.workers), "--blocking-threads", str(config.threads)),
        *("--respawn-failed-workers", "--workers-kill-timeout", "20", "--log-level", "error"),
    ]
    failures = 0
    while failures < RESTARTS_AT_MOST:
        began = time.monotonic()
        server = subprocess.Popen(command, start_new_session=True, preexec_fn=die_with_parent)
        print(f"Predlog: http://{config.host}:{config.port} (Ctrl-C stops it)", file=sys.stderr)
        try:
            server.wait()
        except Stop as stop:
            if stop.number == signal.SIGTERM:
                stopping.touch()
                time.sleep(config.shutdown_delay_s)
            _end(server)
            return 0
        failures = 0 if time.monotonic() - began > STEADY_S else failures + 1
        print(f"predlog: the server ended with {server.returncode}, starting it again", file=sys.stderr)
        time.sleep(1)
    return 1


def _end(server: subprocess.Popen[bytes]) -> None:
    """Let requests in flight finish; a second signal meanwhile changes nothing."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    server.send_signal(signal.SIGTERM)
    try:
        server.wait(timeout=25)
    except subprocess.TimeoutExpired:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


if __name__ == "__main__":
    sys.exit(main())
