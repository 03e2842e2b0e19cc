"""Ports of loopback that no other test, and no other run of tests on this machine, is given meanwhile."""

from __future__ import annotations

import functools
import itertools
import os
import socket
from collections.abc import Iterator

HOST = "127.0.0.1"
# Below the ports that systems give to whoever asks for any: no connection and no other server takes one by chance.
FIRST, BLOCK, BLOCKS = 12_000, 200, 100


def free_port() -> int:
    """A port that nobody has, for a server that is started later."""
    _, ports = _ours()
    for port in itertools.islice(ports, BLOCK):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: closed connections linger
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise RuntimeError(f"all ports of {BLOCK} are taken")


def refusing_port() -> int:
    """A port where connections are refused for as long as this process lives."""
    claim, _ = _ours()
    return int(claim.getsockname()[1])


@functools.cache
def _ours() -> tuple[socket.socket, Iterator[int]]:
    """A block of ports for this process: its first port is bound, and never listens, until the process ends."""
    for block in range(BLOCKS):
        first = FIRST + (os.getpid() + block) % BLOCKS * BLOCK
        claim = socket.socket()
        try:
            claim.bind((HOST, first))
        except OSError:
            claim.close()
            continue
        return claim, itertools.cycle(range(first + 1, first + BLOCK))
    raise RuntimeError("every block of ports is taken")
