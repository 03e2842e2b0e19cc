"""Close connections whose client has fallen silent: the server itself would wait for the rest of a body for ever.

A client sends nothing while it waits for its answer, or reads it slowly, so this bounds these, too. Linux knows for
each connection when something last came; elsewhere nothing is done.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import sys
import threading
import time

# Of struct tcp_info (linux/tcp.h): the state is its first byte, tcpi_last_data_recv is in milliseconds.
STATE = struct.Struct("<B")
LAST_DATA_RECEIVED = struct.Struct("<I")
LAST_DATA_RECEIVED_AT = 52
INFO_SIZE = LAST_DATA_RECEIVED_AT + LAST_DATA_RECEIVED.size
OPEN = (1, 8)  # ESTABLISHED, CLOSE_WAIT
DESCRIPTORS = "/proc/self/fd"


def watch(port: int, silent_s: float) -> None:
    """From now on, in a thread: close connections of this process to this port that were silent for so long."""
    if sys.platform == "linux":
        threading.Thread(target=_watch, args=(port, silent_s), name="watch-connections", daemon=True).start()


def _watch(port: int, silent_s: float) -> None:
    while True:
        time.sleep(min(silent_s / 4, 5.0))
        for name in os.listdir(DESCRIPTORS):
            with contextlib.suppress(OSError):  # closed meanwhile
                if os.readlink(os.path.join(DESCRIPTORS, name)).startswith("socket:"):
                    _look_at(int(name), port, silent_s)


def _look_at(descriptor: int, port: int, silent_s: float) -> None:
    # At a copy, which stays the same connection until it has been judged.
    copy = os.dup(descriptor)
    try:
        connection = socket.socket(fileno=copy)
    except OSError:  # it was closed, and the number is something else's now
        os.close(copy)
        return
    with connection:
        if _is_to(connection, port) and _silent_ms(connection) > silent_s * 1000:
            connection.shutdown(socket.SHUT_RDWR)


def _is_to(connection: socket.socket, port: int) -> bool:
    return connection.family in (socket.AF_INET, socket.AF_INET6) and connection.getsockname()[1] == port


def _silent_ms(connection: socket.socket) -> int:
    """How long ago something came from the client; 0 where the connection is not open, or only listens."""
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, INFO_SIZE)
    (state,) = STATE.unpack_from(info)
    (milliseconds,) = LAST_DATA_RECEIVED.unpack_from(info, LAST_DATA_RECEIVED_AT)
    return int(milliseconds) if state in OPEN else 0
