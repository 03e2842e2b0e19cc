"""`make demo`: a Predlog with a week of made-up predictions, and more of them every second, until Ctrl-C.

The database is a temporary one: nothing of it stays.
"""

from __future__ import annotations

import html
import json
import os
import signal
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import uuid4

from examples.demo_predictions import HISTORY, SLOW_HOUR, Prediction, predictions
from examples.processes import free_port, server
from examples.receiver import receiver

BATCH = 10_000
ALERTS = Path(__file__).with_name("demo_alerts.toml")
DROPPED = {"model_name": "search_ranking", "reason": "queue_full", "count": 130}


def main() -> int:
    """Serve until Ctrl-C, or until it is told to end in another way."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="predlog-demo-") as name, suppress(KeyboardInterrupt):
        folder = Path(name)
        folder.chmod(0o755)  # if root starts the database, it runs as another user
        port = free_port(int(os.environ.get("PORT", "8000")))
        url = f"http://127.0.0.1:{port}"
        with receiver(_tell) as webhook:
            settings = {"ALERTS_FILE": str(ALERTS), "PUBLIC_URL": url}
            with server("Predlog", ["-m", "app"], "/ready", folder, port, DEMO_WEBHOOK_URL=webhook, **settings):
                _serve(url)
    return 0


def _tell(text: str) -> None:
    print(f"\nAn alert: {html.unescape(text)}", flush=True)  # Slack wants &, < and > escaped


def fill(url: str, now: datetime) -> int:
    """Log the predictions of the days before, and reports of dropped ones; return the number of predictions."""
    _post(f"{url}/api/v1/dropped", [{**DROPPED, "id": str(uuid4()), "timestamp": (now - SLOW_HOUR).isoformat()}])
    return _send(url, predictions(now - HISTORY, now, now))


def _serve(url: str) -> None:
    now = told = datetime.now(timezone.utc)
    stored = fill(url, now)
    print(
        f"{stored:,} predictions of the last {HISTORY.days} days are logged, and more come every second.\n\n"
        f"    {url}/dashboard\n\n"
        "checkout_fraud has a bad release, search_ranking had a slow hour, spam_filter has fallen silent.\n"
        "Alerts are told to a webhook that prints them here. Ctrl-C ends it; nothing stays.",
        flush=True,
    )
    while True:
        time.sleep(1)
        now = datetime.now(timezone.utc)
        _send(url, predictions(told, now, now))
        told = now


def _send(url: str, logged: Iterable[Prediction]) -> int:
    """Log all of the predictions; return how many."""
    remaining, stored = iter(logged), 0
    while batch := list(islice(remaining, BATCH)):
        stored += _post(f"{url}/api/v1/predict-logs", batch)["stored"]
    return stored


def _post(url: str, body: Sequence[dict[str, Any]]) -> dict[str, Any]:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as response:
        return dict(json.load(response))


if __name__ == "__main__":
    sys.exit(main())
