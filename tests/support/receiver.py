"""A webhook's receiver: a real HTTP server that accepts messages, refuses them, hangs up, or keeps silent."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

HANG_UP, STORE_AND_HANG_UP, REDIRECT = "hang up", "store and hang up", "redirect"


class Receiver(ThreadingHTTPServer):
    """`moods` says how the next requests are answered, the default is 200; `accepted` is what was answered so."""

    daemon_threads = True
    moods: list[int | str]
    delay_s = 0.0

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.moods = []
        self.attempts: list[str] = []
        self.accepted: list[tuple[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hook/s3cret-path"

    @property
    def texts(self) -> list[str]:
        """The first words of all that was accepted."""
        return [body["text"].split(":")[0] for _, body in self.accepted]

    def wait_for(self, messages: int, seconds: float = 120) -> None:
        """Wait until so many were accepted."""
        until = time.monotonic() + seconds
        while len(self.accepted) < messages:
            assert time.monotonic() < until, f"{len(self.accepted)} of {messages} messages: {self.accepted}"
            time.sleep(0.05)


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        key = self.headers["Idempotency-Key"]
        with self.server.lock:
            self.server.attempts.append(key)
            self.server.headers.append(dict(self.headers))
            mood = self.server.moods.pop(0) if self.server.moods else 200
        time.sleep(self.server.delay_s)
        if mood == HANG_UP:
            self.close_connection = True
            return
        if mood in (200, STORE_AND_HANG_UP):
            self.server.accepted.append((key, body))
        if mood == STORE_AND_HANG_UP:
            self.close_connection = True
            return
        self.send_response(302 if mood == REDIRECT else int(mood))
        if mood == REDIRECT:
            self.send_header("Location", self.server.url)
        if mood == 429:
            self.send_header("Retry-After", "7")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Keep silent."""


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver on a free port."""
    receiver = Receiver()
    thread = threading.Thread(target=receiver.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.shutdown()
        receiver.server_close()
        thread.join()
