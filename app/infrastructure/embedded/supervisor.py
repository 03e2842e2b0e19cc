"""The postmaster's parent: a small process that lives as long as its caller does, and PostgreSQL with it.

It runs as a script, so that it loads nothing of the application. It reads its orders as a line of JSON from standard
input; afterwards that pipe is silent until the caller ends. It writes the result of the start as a line to standard
output.

Every process of the server holds the write end of one pipe, its log. The pipe ends only when the whole server has
ended, including backends that outlive a killed postmaster and would keep the next one from starting.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

READY = "ready"
LOG_BYTES = 5_000_000
CALLER_CHECK_SECONDS = 1.0
READY_CHECK_SECONDS = 0.02
STEADY_SECONDS = 2.0
ATTEMPTS = 10
INITIAL_BACKOFF_SECONDS = 0.1
MAX_BACKOFF_SECONDS = 10.0
ORPHANS_SECONDS = 5.0
# Fast (PostgreSQL closes connections and writes a checkpoint), then immediate, then by force; and the seconds of each.
SHUTDOWN = ((signal.SIGINT, 60.0), (signal.SIGQUIT, 10.0), (signal.SIGKILL, 5.0))
PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Orders:
    caller: int
    command: list[str]
    environment: dict[str, str]
    account: dict[str, Any]
    pid_file: str
    log_file: str
    lock: int


class Log:
    """A file and its predecessor, neither longer than `limit` bytes."""

    def __init__(self, path: Path, limit: int = LOG_BYTES) -> None:
        self.tail = b""
        self._path = path
        self._limit = limit

    def write(self, data: bytes) -> None:
        self.tail = (self.tail + data)[-2000:]
        with contextlib.suppress(OSError):  # a full disk costs lines of the log, not the server
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
            with open(os.open(self._path, flags, 0o600), "ab") as file:
                file.write(data)
                size = file.tell()
            if size > self._limit:
                self._path.replace(self._path.with_name(f"{self._path.name}.1"))

    def last_words(self) -> str:
        return "; ".join(self.tail.decode(errors="replace").strip().splitlines()[-3:])


class Supervisor:
    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._log = Log(Path(orders.log_file))
        self._server: subprocess.Popen[bytes]
        self._log_pipe = -1
        self._server_ended = True
        self._caller_left = False
        self._ready_since: float | None = None

    def run(self) -> int:
        """Keep the server running until the caller ends; return 1 if the server does not run, or does not stop."""
        failures = 0
        answered = False
        while True:
            self._launch()
            while not (self._server_ended or self._caller_left):
                self._wait(READY_CHECK_SECONDS if self._ready_since is None else CALLER_CHECK_SECONDS)
                if self._ready_since is None and self._is_ready():
                    self._ready_since = time.monotonic()
                    if not answered:
                        answered = True
                        _answer(READY)
            if self._caller_left:
                return self._shut_down()
            ended = f"PostgreSQL has ended with status {self._server.wait()}"
            if not answered:
                _answer(self._log.last_words() or ended)
                return 1
            was_steady = self._ready_since is not None and time.monotonic() - self._ready_since > STEADY_SECONDS
            failures = 1 if was_steady else failures + 1
            if failures == ATTEMPTS:
                self._say(f"{ended}, {failures} times in a row: giving up, see {self._orders.log_file}")
                return 1
            self._say(f"{ended}: starting it again")
            if self._caller_leaves_within(min(INITIAL_BACKOFF_SECONDS * 2 ** (failures - 1), MAX_BACKOFF_SECONDS)):
                return 0

    def _launch(self) -> None:
        self._server = subprocess.Popen(
            self._orders.command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd="/",
            env=self._orders.environment,
            umask=0o077,
            pass_fds=[self._orders.lock],
            preexec_fn=die_with_parent(),
            **self._orders.account,
        )
        assert self._server.stdout is not None
        self._log_pipe = self._server.stdout.fileno()
        self._server_ended = False
        self._ready_since = None

    def _wait(self, seconds: float) -> None:
        """Copy the server's log; return after some of it, at the server's or the caller's end, or after `seconds`.

        The caller's pipe may stay open when the caller dies, because a process that it forked holds it. So this process
        also checks whether the caller is still its parent.
        """
        sources = [*([] if self._caller_left else [0]), *([] if self._server_ended else [self._log_pipe])]
        readable = select.select(sources, [], [], seconds)[0]
        if self._log_pipe in readable:
            lines = os.read(self._log_pipe, 65536)
            self._server_ended = not lines
            self._log.write(lines)
        if 0 in readable or os.getppid() != self._orders.caller:
            self._caller_left = True

    def _caller_leaves_within(self, seconds: float) -> bool:
        end = time.monotonic() + seconds
        while not self._caller_left and (left := end - time.monotonic()) > 0:
            self._wait(min(left, CALLER_CHECK_SECONDS))
        return self._caller_left

    def _is_ready(self) -> bool:
        """Check as pg_ctl does: the pid file names this postmaster on its first line and says "ready" on its eighth."""
        try:
            lines = Path(self._orders.pid_file).read_bytes().split(b"\n")
        except OSError:
            return False
        return len(lines) > 7 and int(lines[0]) == self._server.pid and lines[7].strip() == b"ready"

    def _shut_down(self) -> int:
        for number, seconds in SHUTDOWN:
            if self._server.poll() is None:
                self._server.send_signal(number)
            else:
                seconds = ORPHANS_SECONDS
            end = time.monotonic() + seconds
            while not self._server_ended and (left := end - time.monotonic()) > 0:
                self._wait(left)
            if self._server_ended:
                self._server.wait()
                return 0
        return 1

    def _say(self, sentence: str) -> None:
        line = f"{time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime())} UTC {sentence}\n".encode(errors="replace")
        self._log.write(line)
        with contextlib.suppress(OSError):
            os.write(2, line)


def die_with_parent() -> Callable[[], None] | None:
    """Return a function for the child that asks for SIGQUIT when this process is killed; None if it is not possible.

    The child calls it after its change of user, which would clear the request. The signal is SIGQUIT because no process
    is left to ask twice: it is the one shutdown in which the postmaster kills processes that do not end by themselves.
    Committed data is in the write-ahead log, and the next start replays it.
    """
    if os.uname().sysname != "Linux":
        return None
    libc = ctypes.CDLL(None)
    parent = os.getpid()

    def ask() -> None:
        libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGQUIT))
        if os.getppid() != parent:
            os._exit(1)

    return ask


def _answer(sentence: str) -> None:
    with contextlib.suppress(OSError):
        os.write(1, f"{sentence}\n".encode(errors="replace"))
    os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), 1)


def main() -> int:
    with open(0, "rb", buffering=0, closefd=False) as caller:
        line = caller.readline()
    if not line:
        return 0
    # Signals to the whole group are ignored, because the caller decides when to stop. A handler, unlike SIG_IGN, is not
    # inherited through exec.
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    try:
        return Supervisor(Orders(**json.loads(line))).run()
    except (OSError, subprocess.SubprocessError) as error:
        _answer(str(error))
        raise


if __name__ == "__main__":
    sys.exit(main())
