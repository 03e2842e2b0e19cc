"""Close idle connections, because the server itself would wait for them for ever.

A client that sends nothing, sends its request too slowly or reads its answer too slowly, has a limited time, which does
not run while the service works on its request. If there are more connections than the worker should hold, the ones that
were idle for longest are closed first, beginning with the address that has most. Linux tells all this about each
connection; on other systems nothing is closed.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from heapq import heapify, heappop, heappush

from app.domain.loopback import is_loopback
from app.server import sockets
from app.server.sockets import Connection

# The worker can hold so many more connections for a moment, so that a probe gets in before others are closed.
SPARE = 64
COUNT_EVERY_S = 0.25
LOOK_EVERY_S = 5.0
# The bytes a second that a client must read of an answer, on average over its time.
MIN_BYTES_A_SECOND = 4096
# Until twice its time a request that comes too slowly is answered 408, unless its body stops almost wholly: the server
# then keeps the thread that reads it for as long as a byte comes now and then.
MAX_TIMES_LATE = 3
# The seconds that may pass on a busy machine from the last byte of a request until a thread works on it.
MAX_DELAY_S = 5.0

# The address of the client of each request that is worked on, and since when, by time.monotonic().
AtWork = Iterable[tuple[str, float]]


@dataclass(frozen=True)
class Limits:
    """Seconds that a client may be silent; connections at most, and of each address (0: no limit)."""

    silent_s: float
    connections: int
    per_address: int = 0


def watch(port: int, limits: Limits, at_work: Callable[[], AtWork]) -> None:
    """From now on, in a thread: close connections of this process to this port that are beyond the limits.

    `at_work` says which requests are worked on.
    """
    if sys.platform == "linux":
        threading.Thread(target=_watch, args=(port, limits, at_work), name="watch-connections", daemon=True).start()


def _watch(port: int, limits: Limits, at_work: Callable[[], AtWork]) -> None:
    judge, due = Judge(limits), 0.0
    crowd = min(limits.connections, limits.per_address or limits.connections)
    while True:
        time.sleep(min(limits.silent_s / 4, COUNT_EVERY_S))
        now = time.monotonic()
        with suppress(OSError):  # no descriptor is free for the check: the next one may find one
            if now >= due or sockets.number() > crowd:
                for connection in judge.condemned(list(sockets.connections(port)), now, at_work()):
                    # Reset, or the rest of an answer would stay in the kernel until the client has read it.
                    sockets.close(connection, reset=connection.unread > 0)
                due = now + min(limits.silent_s / 4, LOOK_EVERY_S)


@dataclass
class _Course:
    """The history of a connection, from one check to the next."""

    acked: int
    busy_since: float
    unread_since: float
    unread_acked: int


class Judge:
    """Says which connections are to be closed."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._courses: dict[str, _Course] = {}
        self._work_began: dict[str, list[float]] = {}

    def condemned(self, connections: Collection[Connection], now: float, at_work: AtWork = ()) -> list[Connection]:
        """Return which of all open connections to close, at this moment of time.monotonic()."""
        self._work_began = defaultdict(list)
        for address, since in at_work:
            self._work_began[sockets.network(address)].append(since)
        self._courses = {connection.inode: self._follow(connection, now) for connection in connections}
        condemned = [connection for connection in connections if self._is_over(connection, now)]
        left = set(connections) - set(condemned)
        return condemned + self._surplus(left, now)

    def _follow(self, connection: Connection, now: float) -> _Course:
        course = self._courses.get(connection.inode)
        if course is None:
            return _Course(connection.acked, now, now, connection.acked)
        if connection.is_idle or connection.acked != course.acked:
            course.busy_since = now
        if connection.unread == 0:
            course.unread_since, course.unread_acked = now, connection.acked
        course.acked = connection.acked
        return course

    def _is_over(self, connection: Connection, now: float) -> bool:
        """Return whether the client has neither sent nor read enough in its time."""
        if connection.unread == 0:
            is_silent = min(connection.received_s, connection.sent_s) > self._limits.silent_s
            is_late = now - self._courses[connection.inode].busy_since > MAX_TIMES_LATE * self._limits.silent_s
            return (is_silent or is_late) and not self._may_be_at_work(connection, now)
        course = self._courses[connection.inode]
        waited_s = now - course.unread_since
        if waited_s <= self._limits.silent_s:
            return False
        read = connection.acked - course.unread_acked
        course.unread_since, course.unread_acked = now, connection.acked
        return read < MIN_BYTES_A_SECOND * waited_s

    def _may_be_at_work(self, connection: Connection, now: float) -> bool:
        """Return whether a request of this address is worked on that may have come on this connection.

        The server does not say on which connection a request came, but work begins as soon as its last byte is there.
        """
        heard = now - connection.received_s
        return any(abs(began - heard) <= MAX_DELAY_S for began in self._work_began.get(connection.peer, ()))

    def _surplus(self, connections: Iterable[Connection], now: float) -> list[Connection]:
        """Return the longest idle ones: first of addresses that have too many, then of the address that has most."""
        by_peer: dict[str, list[Connection]] = defaultdict(list)
        for connection in sorted(connections, key=lambda connection: self._useless_s(connection, now)):
            by_peer[connection.peer].append(connection)
        surplus = []
        if self._limits.per_address:
            for peer, theirs in by_peer.items():
                while len(theirs) > self._limits.per_address and not is_loopback(peer):
                    surplus.append(theirs.pop())
        number = sum(map(len, by_peer.values()))
        most = [(-len(theirs), peer) for peer, theirs in by_peer.items()]
        heapify(most)
        for _ in range(number - self._limits.connections):
            count, peer = heappop(most)
            surplus.append(by_peer[peer].pop())
            heappush(most, (count + 1, peer))
        return surplus

    def _useless_s(self, connection: Connection, now: float) -> float:
        """Return the seconds since its last answer ended, or since it began to wait for one."""
        if connection.is_idle:
            return min(connection.received_s, connection.sent_s)
        return now - self._courses[connection.inode].busy_since
