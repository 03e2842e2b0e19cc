"""Time out statements on a server that hangs because it was paused, or because its disk does not answer.

Such a server cannot time out a statement itself, TCP sees a healthy connection, and the driver would wait for ever. So
a thread checks the statements under way, and closes the connections of those that should have ended.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

from psycopg2 import InterfaceError
from psycopg2.extensions import connection as DriverConnection
from psycopg2.extensions import cursor as DriverCursor

CHECK_EVERY_S = 0.5
# How much longer than its own timeout the server may take to report that a statement took too long.
GRACE_S = 2.0


class Deadlines:
    """The statements under way in this process, and when each should have ended."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._due: dict[DriverConnection, float] = {}
        self._thread: threading.Thread | None = None

    def begin(self, connection: DriverConnection, seconds: float) -> None:
        """Register a statement that may take `seconds`."""
        with self._lock:
            self._due[connection] = self._clock() + seconds
            if self._thread is None or not self._thread.is_alive():  # or this process was forked since
                self._thread = threading.Thread(target=self._watch, name="watch-statements", daemon=True)
                self._thread.start()

    def end(self, connection: DriverConnection) -> None:
        """Remove the statement; wait for the thread if it is just closing the connection."""
        with self._lock:
            del self._due[connection]

    def close_overdue(self) -> None:
        """Break the connections of overdue statements, which then fail as if the server had died."""
        with self._lock:
            now = self._clock()
            for connection, due in self._due.items():
                if now > due:
                    # A connection that the driver has found broken has no socket any more.
                    with suppress(OSError, InterfaceError), socket.socket(fileno=os.dup(connection.fileno())) as copy:
                        copy.shutdown(socket.SHUT_RDWR)
                    self._due[connection] = float("inf")

    def _watch(self) -> None:
        while True:
            time.sleep(CHECK_EVERY_S)
            self.close_overdue()


deadlines = Deadlines()


class WatchedConnection(DriverConnection):
    """A connection that waits `timeout_s` seconds for each statement; None means no limit."""

    def __init__(self, dsn: str, *, timeout_s: float | None) -> None:
        super().__init__(dsn)
        self.timeout_s = timeout_s
        self.cursor_factory = WatchedCursor


class WatchedCursor(DriverCursor):
    """A cursor of a WatchedConnection."""

    def execute(self, query: Any, parameters: Any = None) -> None:
        """Run a statement. Raises OperationalError if the server has not answered in time."""
        connection = cast(WatchedConnection, self.connection)
        if connection.timeout_s is None:
            return super().execute(query, parameters)
        deadlines.begin(connection, connection.timeout_s)
        try:
            super().execute(query, parameters)
        finally:
            deadlines.end(connection)
