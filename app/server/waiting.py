"""Processes that import what they need while the database starts, and then wait for its address."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from types import TracebackType

from app.server import process_lifecycle

END_S = 1.0  # that a process has to end if it serves no requests


class Waiting:
    """A process of the supervisor's that runs a module, which calls `wait()` when it has imported everything.

    It has a session of its own, so that Ctrl-C reaches the supervisor first.
    """

    def __init__(self, module: str, *arguments: str, environment: Mapping[str, str] = os.environ) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            bufsize=0,
            stdin=subprocess.PIPE,
            env=environment,
            start_new_session=True,
            preexec_fn=process_lifecycle.die_with_parent,
        )

    def __enter__(self) -> Waiting:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end(END_S)

    def go_on(self, settings: Mapping[str, str]) -> int:
        """Let the process go on with these settings in its environment, and return its exit code when it has ended."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError), self.process.stdin as orders:
            orders.write(json.dumps(settings).encode() + b"\n")
        return self.process.wait()

    def end(self, seconds: float) -> None:
        """Ask the process to end if it runs, and kill it and those that it has started after so many seconds."""
        self.process.terminate()
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def wait() -> None:
    """In the process: wait for the settings. Exit if the supervisor has ended instead."""
    line = sys.stdin.readline()
    if not line:
        sys.exit(0)
    os.environ.update(json.loads(line))
