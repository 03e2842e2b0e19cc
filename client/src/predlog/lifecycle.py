"""The moments of a process's life that a client must not miss: fork and exit."""

from __future__ import annotations

import atexit
import os
import sys
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

if TYPE_CHECKING:
    from predlog.client import Client
    from predlog.pipeline import Pipeline

_clients: WeakSet[Client] = WeakSet()
_running: set[Pipeline] = set()
_hooked: list[Any] = []


def created(client: Client) -> None:
    """Give the client a pipeline of its own in every child that is forked while it lives."""
    _clients.add(client)


def started(pipeline: Pipeline) -> None:
    """Close the pipeline when the process exits."""
    _running.add(pipeline)
    multiprocessing = sys.modules.get("multiprocessing")
    if not _hooked and multiprocessing is not None and multiprocessing.parent_process() is not None:
        # A forked child of multiprocessing ends without atexit, but runs these.
        from multiprocessing.util import Finalize

        _hooked.append(Finalize(None, _close_all, exitpriority=-100))


def stopped(pipeline: Pipeline) -> None:
    """The pipeline has ended by itself."""
    _running.discard(pipeline)


def _close_all() -> None:
    pipelines = list(_running)
    for pipeline in pipelines:  # all of them first: the time-outs run side by side
        pipeline.begin_close(pipeline.exit_timeout)
    for pipeline in pipelines:
        pipeline.finish_close()


def _after_fork_in_child() -> None:
    _running.clear()
    _hooked.clear()
    for client in list(_clients):
        client._start_over()


# At import, so that it runs after the handlers of the host, which was imported first or registers later: they may log.
atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
