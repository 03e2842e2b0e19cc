"""A load generator: so many keep-alive connections, each of which sends its next request once it has its answer.

    python -m benchmarks.load PORT PATH SECONDS CONNECTIONS < BODY

It is a process of its own, without a library for HTTP: at 5,000 requests a second it takes a tenth of a core. It prints
a JSON object: requests a second, and the latency's p50 and p99 in milliseconds, all without the first second.
"""

from __future__ import annotations

import asyncio
import json
import re
import statistics
import sys
import time

WARM_UP_S = 1
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Caller(asyncio.Protocol):
    """One connection."""

    def __init__(self, request: bytes, times: list[tuple[float, float]]) -> None:
        self._request, self._times = request, times
        self._answer = b""
        self._began = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._send()

    def data_received(self, data: bytes) -> None:
        self._answer += data
        head, blank, body = self._answer.partition(b"\r\n\r\n")
        length = _LENGTH.search(head) if blank else None
        if length is None or len(body) < int(length[1]):
            return
        if not head.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"not 200: {self._answer.decode()}")
        now = time.perf_counter()
        self._times.append((now, now - self._began))
        self._send()

    def _send(self) -> None:
        self._answer = b""
        self._began = time.perf_counter()
        self._transport.write(self._request)


async def load(port: int, request: bytes, seconds: float, connections: int) -> dict[str, float]:
    """Send for so many seconds after the warm-up, and return the figures."""
    times: list[tuple[float, float]] = []
    loop = asyncio.get_running_loop()
    for _ in range(connections):
        await loop.create_connection(lambda: Caller(request, times), "127.0.0.1", port)
    start = time.perf_counter() + WARM_UP_S
    await asyncio.sleep(WARM_UP_S + seconds)
    took = [latency * 1000 for end, latency in times if start <= end < start + seconds]
    return {
        "rate": len(took) / seconds,
        "p50": statistics.median(took),
        "p99": statistics.quantiles(took, n=100)[98],
    }


def main() -> None:
    port, path, seconds, connections = sys.argv[1:]
    body = sys.stdin.buffer.read()
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    head += f"Content-Length: {len(body)}\r\n\r\n"
    print(json.dumps(asyncio.run(load(int(port), head.encode() + body, float(seconds), int(connections)))))


if __name__ == "__main__":
    main()
