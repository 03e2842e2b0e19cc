"""`predlog-server`, or `python -m app`: database, migrations, workers, in this order, and back again at the end.

With a command as its first argument, such as `keys list`, it runs that command of `flask --app wsgi`.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import FrameType

from app.infrastructure.embedded import EmbeddedPostgres, EmbeddedPostgresError, Urls
from app.presentation.version import __version__
from app.server import idle_connections, listening, process_lifecycle
from app.server.waiting import Waiting
from app.settings.pages import help_text
from config import Config, ConfigurationError, load

# By its file, because the working directory may have a module of the same name.
WSGI = str(Path(sys.modules[Config.__module__].__file__ or "").with_name("wsgi.py"))
MAX_RESTARTS = 5
STEADY_S = 30
# The bytes that the server buffers of an unread answer, and accepts of a request's headers.
BUFFER_BYTES = 64 * 1024
CONFIGURATION_ERROR = 2  # exit code
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
        from flask.cli import cli as flask_commands  # a start has no need of it

        # Flask would read the .env of a folder above, too; the service and its commands read that of this folder alone.
        os.environ.setdefault("FLASK_SKIP_DOTENV", "1")
        return flask_commands.main(["--app", WSGI, *words], prog_name="predlog-server")
    return serve(_arguments())


def serve(arguments: argparse.Namespace) -> int:
    """Serve until a signal comes.

    Return an exit code, which is not 0 if the service could not start or keep running.
    """
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup ignores SIGHUP
            signal.signal(number, _raise_stop)
    try:
        config = load()
        if config.alerts_file:
            from app.server import alert_loop

            alert_loop.check(config)
        # Checked here, because starting a database first would delay the error.
        config = replace(config, host=listening.address(config.host, config.port))
        # The first two processes import side by side, and while the database starts.
        with (
            _folder(),
            _server(config) as server,
            _preparation(config, arguments) as preparation,
            _database(config) as urls,
        ):
            if code := _prepare(preparation, urls):
                return code
            return _serve(config, server, {"DATABASE_URL": urls.service} if urls else {})
    except (ConfigurationError, EmbeddedPostgresError) as error:
        print(f"predlog: {error}", file=sys.stderr)
        return CONFIGURATION_ERROR
    except Stop:
        return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="predlog-server",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Serve Predlog, or run a command. Settings are in the environment and in .env.",
        epilog="Commands: alerts, capacity, db, dropped, grafana, keys, lifecycle, predictions, roles, stats.\n"
        "`predlog-server keys --help` says what one of them does.\n" + help_text(),
    )
    parser.add_argument("--version", action="version", version=f"Predlog {__version__}")
    parser.add_argument("--no-migrate", dest="migrate", action="store_false", help="the database is migrated elsewhere")
    return parser.parse_args()


def _raise_stop(number: int, frame: FrameType | None) -> None:
    raise Stop(number)


@contextlib.contextmanager
def _database(config: Config) -> Iterator[Urls | None]:
    """Start the embedded server if no database is set, and yield its addresses."""
    if config.database_url is not None:
        yield None
        return
    with EmbeddedPostgres(config.embedded_data_dir) as server:
        print(f"Embedded PostgreSQL: {server.data_dir}", file=sys.stderr)
        yield server.urls


@contextlib.contextmanager
def _folder() -> Iterator[None]:
    """Make the folder in which all processes of the service see which phase of the shutdown has begun."""
    # In memory if possible, because a full disk must stop neither the figures of /metrics nor the service.
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK | os.X_OK) else tempfile.gettempdir()
    _remove_left_folders(Path(memory))
    with tempfile.TemporaryDirectory(prefix=f"{_folder_prefix()}{os.getpid()}-", dir=memory) as folder:
        os.environ[process_lifecycle.FOLDER] = folder
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = os.path.join(folder, "metrics")
        os.mkdir(os.environ["PROMETHEUS_MULTIPROC_DIR"])
        yield


def _folder_prefix() -> str:
    """Return what names of folders begin with; the pid follows, which says nothing in another namespace of pids."""
    try:
        return f"predlog-{os.stat('/proc/self/ns/pid').st_ino}-"
    except OSError:  # not on Linux
        return "predlog-0-"


def _remove_left_folders(parent: Path) -> None:
    """Remove the folders of supervisors that were killed before they could do so themselves."""
    prefix = _folder_prefix()
    for folder in parent.glob(f"{prefix}*-*"):
        pid = folder.name.removeprefix(prefix).partition("-")[0]
        with contextlib.suppress(OSError):  # another start has removed it meanwhile
            if pid.isdecimal() and folder.lstat().st_uid == os.getuid() and not _is_running(int(pid)):
                shutil.rmtree(folder)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # the process of another user; no pid at all
        pass
    return True


def _preparation(config: Config, arguments: argparse.Namespace) -> Waiting:
    options = () if arguments.migrate else ("--no-migrate",)
    return Waiting("app.server.preparation", *options, environment={**os.environ, "HOST": config.host})


def _server(config: Config) -> Waiting:
    threads = str(config.connections + idle_connections.SPARE)
    # The owner's password is for migrations and commands; the workers do not need it. Which hosts they allow depends on
    # HOST, and only of an address can they tell whether it is loopback.
    environment = {**os.environ, "HOST": config.host, "DATABASE_DIRECT_URL": "", "DATABASE_DIRECT_URL_FILE": ""}
    return Waiting(
        *("app.server.granian_server", "wsgi:app", "--interface", "wsgi", "--no-ws"),
        *("--host", config.host, "--port", str(config.port)),
        # A thread for each connection: many threads wait for slow clients, and THREADS of them work at once.
        *("--workers", str(config.workers), "--backpressure", threads, "--blocking-threads", threads),
        *("--http", "1", "--http1-buffer-size", str(BUFFER_BYTES)),
        *("--respawn-failed-workers", "--workers-kill-timeout", "20", "--log-level", "error"),
        environment=environment,
    )


def _prepare(preparation: Waiting, urls: Urls | None) -> int:
    """Have the database prepared; return the exit code of the service, 0 if it may serve."""
    with preparation:  # it must end before the database does
        code = preparation.go_on({"DATABASE_URL": urls.service, "DATABASE_DIRECT_URL": urls.owner} if urls else {})
    if code in (0, CONFIGURATION_ERROR):  # with that code it has said why
        return code
    print(f"predlog: the database could not be prepared (exit code {code})", file=sys.stderr)
    return 1


def _serve(config: Config, server: Waiting, settings: Mapping[str, str]) -> int:
    """Keep the WSGI server running."""
    failures = 0
    try:
        while True:
            began = time.monotonic()
            print(f"Predlog: {listening.url(config.host, config.port)} (Ctrl-C stops it)", file=sys.stderr)
            code = server.go_on(settings)
            failures = 0 if time.monotonic() - began > STEADY_S else failures + 1
            if failures == MAX_RESTARTS:
                print(f"predlog: the server ended with {code}, {failures} times in a row: giving up", file=sys.stderr)
                return 1
            print(f"predlog: the server ended with {code}, starting it again", file=sys.stderr)
            time.sleep(1)
            server = _server(config)
    except Stop as stop:
        _ignore_signals()
        process_lifecycle.begin(process_lifecycle.UNREADY)
        if stop.number == signal.SIGTERM:  # a load balancer needs time to see it; a person at a terminal does not
            time.sleep(config.shutdown_delay_s)
        process_lifecycle.begin(process_lifecycle.END)
        server.end(25)  # requests in flight finish
        return 0


def _ignore_signals() -> None:
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


if __name__ == "__main__":
    sys.exit(main())
