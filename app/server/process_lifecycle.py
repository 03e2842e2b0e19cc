"""Tell the processes of the service to stop."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

# The variable names a folder of the supervisor; a file in it tells all processes that a phase of the stop has begun.
FOLDER = "PREDLOG_SUPERVISOR_FOLDER"
UNREADY = "unready"
END = "end"
_PR_SET_PDEATHSIG = 1


def shared_file(name: str) -> Path | None:
    """Return a file that all processes of this service share while it lives; None if there is no supervisor."""
    folder = os.environ.get(FOLDER)
    return None if folder is None else Path(folder, name)


def begin(phase: str) -> None:
    """Tell all processes of this service that a phase has begun."""
    Path(os.environ[FOLDER], phase).touch()


def has_begun(phase: str) -> bool:
    """Return whether the phase has begun; never if there is no supervisor."""
    folder = os.environ.get(FOLDER)
    return folder is not None and os.path.exists(os.path.join(folder, phase))


def is_stopping() -> bool:
    """Return whether the service is about to stop and should get no more traffic."""
    return has_begun(UNREADY)


def die_with_parent() -> None:
    """In a child before it executes: ask Linux for SIGTERM when the parent dies, even by kill -9."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def end_with_master() -> None:
    """Let a worker end if its master dies or its signals do not arrive; call this before the worker loads."""
    heard_by_nobody = signal.getsignal(signal.SIGTERM)
    threading.Thread(target=_watch, args=(os.getppid(), heard_by_nobody), name="watch-master", daemon=True).start()


def _watch(master: int, heard_by_nobody: Any) -> None:
    # A worker has a handler for its master's signals only when it is loaded.
    was_loading = True
    # If the master died before this check, the parent is process 1.
    while os.getppid() == master != 1 and not (was_loading and has_begun(END)):
        was_loading = signal.getsignal(signal.SIGTERM) is heard_by_nobody
        time.sleep(0.5)
    while signal.getsignal(signal.SIGTERM) is heard_by_nobody:
        time.sleep(0.05)
    # Only once, because granian 2.8 blocks for ever, with all its threads, at a third signal.
    os.kill(os.getpid(), signal.SIGTERM)
