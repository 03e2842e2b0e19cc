"""How the processes of the service learn that they should end."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from pathlib import Path

# Names a folder of the supervisor; a file in it tells all of its processes that a phase of the end has begun.
FOLDER = "PREDLOG_SUPERVISOR_FOLDER"
UNREADY = "unready"
END = "end"
_PR_SET_PDEATHSIG = 1


def shared_file(name: str) -> Path | None:
    """A file that all processes of this service share while it lives; None where there is no supervisor."""
    folder = os.environ.get(FOLDER)
    return None if folder is None else Path(folder, name)


def begin(phase: str) -> None:
    """Tell all processes of this service that a phase has begun."""
    Path(os.environ[FOLDER], phase).touch()


def has_begun(phase: str) -> bool:
    """Whether it has; never, where there is no supervisor."""
    folder = os.environ.get(FOLDER)
    return folder is not None and os.path.exists(os.path.join(folder, phase))


def is_stopping() -> bool:
    """Whether the service is about to stop and should get no more traffic."""
    return has_begun(UNREADY)


def die_with_parent() -> None:
    """In a child before it executes: ask Linux for SIGTERM when the parent dies, even by kill -9."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def end_with_master() -> None:
    """In a worker: see to it that it ends, where its master has died by kill -9 or could not make itself heard.

    A worker that is still being loaded when the master tells it to stop does not hear it, and the master would wait.
    """
    master = os.getppid()
    threading.Thread(target=_watch, args=(master,), name="watch-master", daemon=True).start()


def _watch(master: int) -> None:
    # A master that had died before we looked has left us to process 1.
    while os.getppid() == master != 1 and not has_begun(END):
        time.sleep(0.5)
    while True:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)
