"""The TCP connections of this process, as Linux sees them."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import termios
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import IPv6Address

DESCRIPTORS = "/proc/self/fd"
# Of struct tcp_info (linux/tcp.h), at their places: tcpi_state; tcpi_last_data_sent and tcpi_last_data_recv, in
# milliseconds; tcpi_bytes_acked and tcpi_bytes_received, which Linux has since 4.1.
TCP_INFO = struct.Struct("=B43xI4xI64xQQ")
OPEN = (1, 8)  # ESTABLISHED, CLOSE_WAIT
LENGTH = struct.Struct("i")
NETWORK_BYTES = 8  # the owner of one address of IPv6 has 2^64 of them
# On the last close: drop unsent bytes, send a reset to the client, and keep nothing in the kernel.
RESET = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class Connection:
    """A connection at one moment; `inode` stays the same while it lives."""

    inode: str
    descriptor: int
    peer: str
    received_s: float  # seconds since the client sent data, or since it connected
    sent_s: float  # seconds since data was sent to the client, or since it connected
    acked: int  # bytes that the client has acknowledged so far
    unread: int  # bytes that were written and that the client has not acknowledged
    has_asked: bool  # whether the client ever sent data

    @property
    def is_idle(self) -> bool:
        """Whether the client has read its last answer and has sent nothing since."""
        # The kernel counts time in steps of some milliseconds: a request may come in the same one as its connection.
        is_answered = self.acked > 0 and self.sent_s <= self.received_s
        return self.unread == 0 and (is_answered or not self.has_asked)


def number() -> int:
    """Return how many descriptors this process has, which are at least as many as its connections."""
    return len(os.listdir(DESCRIPTORS))


def connections(port: int) -> Iterator[Connection]:
    """Yield all open connections to this port of the process."""
    for name in os.listdir(DESCRIPTORS):
        with suppress(OSError, struct.error):  # closed meanwhile; or a Linux before 4.1
            inode = os.readlink(os.path.join(DESCRIPTORS, name))
            if inode.startswith("socket:"):
                with _copy(int(name)) as connection:
                    if seen := _look(connection, inode, int(name), port):
                        yield seen


def close(seen: Connection, *, reset: bool = False) -> None:
    """Close a connection, unless it has ended meanwhile; `reset` drops the bytes that the client has not read."""
    with suppress(OSError):
        if os.readlink(os.path.join(DESCRIPTORS, str(seen.descriptor))) == seen.inode:
            with _copy(seen.descriptor) as connection:
                if reset:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def _copy(descriptor: int) -> Iterator[socket.socket]:
    """Lend a copy of the descriptor, which stays the same socket during the block.

    Raises OSError if it is no socket.
    """
    copy = os.dup(descriptor)
    try:
        connection = socket.socket(fileno=copy)
    except OSError:  # it was closed, and the number belongs to another descriptor now
        os.close(copy)
        raise
    with connection:
        yield connection


def _look(connection: socket.socket, inode: str, descriptor: int, port: int) -> Connection | None:
    if connection.family not in (socket.AF_INET, socket.AF_INET6) or connection.getsockname()[1] != port:
        return None
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO.size)
    state, sent_ms, received_ms, acked, received = TCP_INFO.unpack(info)
    if state not in OPEN:
        return None
    (unread,) = LENGTH.unpack(fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(LENGTH.size)))
    peer = network(connection.getpeername()[0])
    return Connection(inode, descriptor, peer, received_ms / 1000, sent_ms / 1000, acked, unread, received > 0)


def network(address: str) -> str:
    """Return the network of the owner of an address: of IPv6 its first half, of IPv4 the address itself."""
    if ":" not in address:
        return address
    v6 = IPv6Address(address.partition("%")[0])
    return str(v6.ipv4_mapped or (v6 if v6.is_loopback else v6.packed[:NETWORK_BYTES].hex(":", 2)))
