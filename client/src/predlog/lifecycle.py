"""The moments of a process's life that a client must not miss: fork and exit."""

from __future__ import annotations

import atexit
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from predlog.forks import mine
from predlog.throttled_log import say
from predlog.uuid7 import reseed

if TYPE_CHECKING:
    from predlog.client_base import ClientBase
    from predlog.pipeline import Pipeline

_clients: WeakSet[ClientBase] = WeakSet()
_running: set[Pipeline] = set()
_hooked: list[Any] = []
_starting_over = threading.RLock()  # re-entrant: a signal handler that logs may interrupt the thread that holds it
_under_way: list[bool] = []  # not empty while clients are started over


def created(client: ClientBase) -> None:
    """Give the client a pipeline of its own in every child that is forked while it lives."""
    _clients.add(client)


def started(pipeline: Pipeline) -> None:
    """Close the pipeline when the process exits."""
    _running.add(pipeline)
    if not _hooked:
        for name in ("multiprocessing", "billiard"):  # Celery's pool is billiard's
            process = sys.modules.get(f"{name}.process")
            if process is not None and process.current_process()._parent_pid is not None:
                _hook(sys.modules[f"{name}.util"], getattr(process.current_process(), "_target", None))
        _look_at_uwsgi()


def stopped(pipeline: Pipeline) -> None:
    """The pipeline has ended by itself."""
    _running.discard(pipeline)


def forked() -> None:
    """Start every client over if this process was forked and no hook has told us.

    A signal handler that interrupts this does not wait; what it logs may be lost with the copy of the parent's queue.
    """
    with _starting_over:
        if not mine[0] and not _under_way:
            _start_over()


def flush(timeout: float) -> None:
    """Send what waits in all clients of this process, within that many seconds."""
    if not mine[0]:
        forked()
    deadline = time.monotonic() + timeout
    for pipeline in list(_running):
        pipeline.flush(max(0.0, deadline - time.monotonic()))


def on_signal(number: int, act: Callable[[], object]) -> None:
    """Act when the signal comes, then do what would have been done without."""
    before = signal.getsignal(number)

    def handle(received: int, frame: FrameType | None) -> None:
        act()
        if callable(before):
            before(received, frame)
        elif before == signal.SIG_DFL:
            signal.signal(received, signal.SIG_DFL)
            os.kill(os.getpid(), received)

    signal.signal(number, handle)


def _hook(util: Any, worker: Any) -> None:
    """In a child of multiprocessing or billiard, which ends without atexit."""
    _hooked.append(util.Finalize(None, _close_all, exitpriority=-100))
    if hasattr(worker, "on_exit"):  # a worker of billiard's pool runs no finalizers either, but calls this
        before = worker.on_exit

        def on_exit(*args: Any) -> None:
            try:
                if before is not None:
                    before(*args)
            finally:
                _close_all()

        worker.on_exit = on_exit


def _look_at_uwsgi() -> None:
    options = getattr(sys.modules.get("uwsgi"), "opt", {})
    if options and not any(options.get(name) or options.get(name.encode()) for name in ("enable-threads", "threads")):
        text = "Predlog: uWSGI runs without --enable-threads: records are sent only while it serves requests"
        say(logging.WARNING, text)


def _close_all() -> None:
    pipelines = list(_running)
    for client in list(_clients):  # one that was never used may still tell what its children lost
        pipeline = client._pipeline
        if pipeline is not None and pipeline.unused and pipeline.take_over():
            pipelines.append(pipeline)
    for pipeline in pipelines:  # all of them first: the time-outs run side by side
        pipeline.begin_close(pipeline.exit_timeout)
    for pipeline in pipelines:
        pipeline.finish_close()


def _start_over() -> None:
    _under_way.append(True)
    try:
        _running.clear()
        _hooked.clear()
        reseed()
        for client in list(_clients):
            try:
                client._start_over()
            except Exception as error:  # the other clients must go on, and so must the host
                say(logging.WARNING, "Predlog: a client cannot start in a forked child (%s)", type(error).__name__)
        mine[0] = 1  # last: a thread that sees it finds the clients started over
    finally:
        _under_way.clear()


def _after_fork_in_child() -> None:
    global _starting_over
    _starting_over = threading.RLock()
    _start_over()


# At import, so that it runs after the handlers of the host, which was imported first or registers later: they may log.
atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
