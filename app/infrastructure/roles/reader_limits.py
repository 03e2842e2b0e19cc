"""The time limits of Grafana's role, from outside: what `ALTER ROLE … SET` gives a role, its sessions can lift.

While a query of the reader runs, no migration and no move into the columnstore gets the table to itself, and all who
come after those wait with them. So whoever answers requests or migrates also ends, every now and then, the reader's
sessions that take too long.
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
    """From now on, for as long as the process lives, end what takes longer than MAX_READ_S."""
    _start(engine, MAX_READ_S, CHECK_EVERY_S, threading.Event())


@contextmanager
def enforced(engine: Engine) -> Iterator[None]:
    """Have nothing of the reader's take longer than MAX_READ_WHILE_MIGRATING_S in this block."""
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
            with suppress(SQLAlchemyError):  # not migrated yet, or away: the next time will do
                _end_reads(engine, longest_s)

    thread = threading.Thread(target=run, name="end-long-reads", daemon=True)
    thread.start()
    return thread


def _end_reads(engine: Engine, longest_s: float) -> None:
    with engine.connect() as connection:
        connection.exec_driver_sql(END_READS, {"seconds": longest_s})
        connection.commit()
