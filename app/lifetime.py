"""How the processes of the service learn that they should end."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time

# Names the file that exists while the service is about to stop.
STOPPING = "PREDLOG_STOPPING_FILE"
_PR_SET_PDEATHSIG = 1


def is_stopping() -> bool:
    """Whether the service is about to stop and should get no more traffic."""
    path = os.environ.get(STOPPING)
    return path is not None and os.path.exists(path)


def die_with_parent() -> None:
    """In a child before it executes: ask Linux for SIGTERM when the parent dies, even by kill -9."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def end_with_master() -> None:
    """In a worker: a master killed by kill -9 must not leave workers that hold the port."""
    master = os.getppid()
    threading.Thread(target=_watch, args=(master,), name="watch-master", daemon=True).start()


def _watch(master: int) -> None:
    while os.getppid() == master:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(5)
    os._exit(1)
