"""Enforce the timeouts of Grafana's role, because its sessions can lift settings of `ALTER ROLE … SET`.

While a query of the reader runs, no migration and no move into the columnstore can lock the table, and all later
statements wait behind them. So the service and the migrations now and then end sessions of the reader that take too
long.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

MAX_READ_S = 60
CHECK_EVERY_S = 10.0
# A migration holds up all writing while it waits for a lock.
MAX_READ_WHILE_MIGRATING_S = 1
CHECK_EVERY_WHILE_MIGRATING_S = 0.5

END_READS = "SELECT prediction_end_reads(make_interval(secs => %(seconds)s))"


def watch(engine: Engine) -> None:
    """Start a thread that ends sessions of the reader that take longer than MAX_READ_S, while the process lives."""
    _start(engine, MAX_READ_S, CHECK_EVERY_S, threading.Event())


@contextmanager
def enforced(engine: Engine) -> Iterator[None]:
    """End sessions of the reader that take longer than MAX_READ_WHILE_MIGRATING_S during the block."""
    end = threading.Event()
    thread = _start(engine, MAX_READ_WHILE_MIGRATING_S, CHECK_EVERY_WHILE_MIGRATING_S, end)
    try:
        yield
    finally:
        end.set()
        thread.join()


def _start(engine: Engine, longest_s: float, every_s: float, end: threading.Event) -> threading.Thread:
    def run() -> None:
        while not end.wait(every_s):
            with suppress(SQLAlchemyError):  # the database is away, or not migrated yet: the next round tries again
                _end_reads(engine, longest_s)

    thread = threading.Thread(target=run, name="end-long-reads", daemon=True)
    thread.start()
    return thread


def _end_reads(engine: Engine, longest_s: float) -> None:
    with engine.connect() as connection:
        connection.exec_driver_sql(END_READS, {"seconds": longest_s})
        connection.commit()
