"""granian, with the application imported before its workers are forked: they share the time and the memory of that.

`python -m app` starts it first of all, so that it imports while the database starts. Its arguments are granian's.
"""

from __future__ import annotations

import gc
import multiprocessing
import sys

from granian.cli import entrypoint

# The modules that wsgi.py imports. wsgi.py itself starts threads, which must not happen before the fork.
import app.factory
import app.infrastructure.roles.reader_limits
import app.server.alert_loop  # noqa: F401
from app.server.waiting import wait

if __name__ == "__main__":
    wait()
    if sys.platform == "linux":
        multiprocessing.set_start_method("fork")  # the default before Python 3.14
    gc.freeze()  # a collection in a worker would write to the pages that it shares
    entrypoint()
