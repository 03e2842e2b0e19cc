"""A clock that processes believe in, and that can be set while they run: a small library that is loaded into them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).with_name("clock.c")


def why_not() -> str | None:
    """Why there can be none here, if so."""
    if sys.platform != "linux":
        return "clocks of processes are moved on Linux only"
    return None if shutil.which("cc") else "there is no C compiler (cc) to make a clock with"


class Clock:
    """Shifts the time of day of processes with `environment`; their monotonic clock is not changed."""

    def __init__(self, folder: Path) -> None:
        library = folder / "clock.so"
        subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, SOURCE, "-ldl"], check=True)
        self._file = folder / "clock"
        self._file.write_bytes(bytes(8))
        self._file.chmod(0o644)
        self.environment = {"LD_PRELOAD": str(library), "PREDLOG_TEST_CLOCK": str(self._file)}

    def set_by(self, seconds: int) -> None:
        """Set it so far from the true time, at once; negative: back."""
        with self._file.open("r+b", buffering=0) as file:
            file.write((seconds * 1_000_000).to_bytes(8, sys.byteorder, signed=True))
