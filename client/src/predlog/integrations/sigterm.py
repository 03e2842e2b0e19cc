"""SIGTERM in hosts that leave it to the system, which ends a process without its exit handlers."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from predlog.client import Client


def flush_at_sigterm(log: Client) -> None:
    """Send what waits when SIGTERM comes, if nobody else handles it; the process ends by the signal all the same.

    Development servers need it. A server that handles SIGTERM itself does so before it loads the application, or
    replaces this handler.
    """
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        log.install_signal_handler()
