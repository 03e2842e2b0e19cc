"""Close connections that nothing comes of: the server itself would wait for them for ever.

A client that sends nothing, or reads its answer too slowly, has so many seconds. If there are more connections than the
worker should hold, those go first that were of no use for longest, of the address that has most. Linux knows all this
of each connection; elsewhere nothing is done.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import defaultdict
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from heapq import heapify, heappop, heappush

from app.domain.loopback import is_loopback
from app.server import sockets
from app.server.sockets import Connection

# The worker can hold so many more for the moment, so that a probe gets in while it makes room.
SPARE = 64
COUNT_EVERY_S = 0.25
LOOK_EVERY_S = 5.0
# What a client must read of an answer, on average over the time that it has.
MIN_BYTES_A_SECOND = 4096


@dataclass(frozen=True)
class Limits:
    """Seconds that a client may be silent; connections at most, and of each address (0: no limit)."""

    silent_s: float
    connections: int
    per_address: int = 0


def watch(port: int, limits: Limits) -> None:
    """From now on, in a thread: close connections of this process to this port that are beyond the limits."""
    if sys.platform == "linux":
        threading.Thread(target=_watch, args=(port, limits), name="watch-connections", daemon=True).start()


def _watch(port: int, limits: Limits) -> None:
    judge, due = Judge(limits), 0.0
    crowd = min(limits.connections, limits.per_address or limits.connections)
    while True:
        time.sleep(min(limits.silent_s / 4, COUNT_EVERY_S))
        now = time.monotonic()
        with suppress(OSError):  # no descriptor is left to look with: the next look may find one
            if now >= due or sockets.number() > crowd:
                for connection in judge.condemned(list(sockets.connections(port)), now):
                    # If it was reading, the rest of its answer would stay in the kernel until it has read all.
                    sockets.close(connection, reset=connection.unread > 0)
                due = now + min(limits.silent_s / 4, LOOK_EVERY_S)


@dataclass
class _Course:
    """What is remembered of a connection from one look to the next."""

    acked: int
    busy_since: float
    unread_since: float
    unread_acked: int


class Judge:
    """Says which connections are to be closed."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._courses: dict[str, _Course] = {}

    def condemned(self, connections: Collection[Connection], now: float) -> list[Connection]:
        """Of all the connections that there are at a moment of time.monotonic(), those to be closed."""
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
        """Whether the client has let its time pass without a sign of life."""
        if connection.unread == 0:
            return min(connection.received_s, connection.sent_s) > self._limits.silent_s
        course = self._courses[connection.inode]
        waited_s = now - course.unread_since
        if waited_s <= self._limits.silent_s:
            return False
        read = connection.acked - course.unread_acked
        course.unread_since, course.unread_acked = now, connection.acked
        return read < MIN_BYTES_A_SECOND * waited_s

    def _surplus(self, connections: Iterable[Connection], now: float) -> list[Connection]:
        """Those of no use for longest, first of addresses that have too many, then of the address that has most."""
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
        """How long ago its last answer ended, or for how long it has waited for one."""
        if connection.is_idle:
            return min(connection.received_s, connection.sent_s)
        return now - self._courses[connection.inode].busy_since
