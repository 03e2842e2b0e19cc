"""`make demo-check`: real models behind real servers, called a few thousand times, and counted by both sides.

Starts a Predlog with a database of its own in a temporary folder, then the model server on Flask under gunicorn and
the one on FastAPI under uvicorn, one after the other, and calls both models; some calls fail for real. The exit code
is not 0 if a figure differs.
"""

from __future__ import annotations

import http.client
import json
import random
import sys
import tempfile
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlencode

import click

from examples.models import Model, train
from examples.processes import server

CALLS = 2000
FAILING = 0.05


def main() -> int:
    """Run the check; return 0 if both counts are the same."""
    models = train()
    ours: Counter[tuple[str, bool]] = Counter()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="predlog-demo-")))
        folder.chmod(0o755)  # if root starts the database, it runs as another user
        service = stack.enter_context(server("Predlog", ["-m", "app"], "/ready", folder))
        for name, command in {
            "Flask under gunicorn": [
                "-m",
                "gunicorn",
                "--preload",
                "--workers=2",
                "--threads=4",
                "examples.flask_server:app",
            ],
            "FastAPI under uvicorn": ["-m", "uvicorn", "--log-level=warning", "examples.fastapi_server:app"],
        }.items():
            url = f"http://127.0.0.1:{service}"
            with server(name, command, "/", folder, PREDLOG_URL=url, SPOOL_DIR=str(folder / "spool")) as port:
                for model in models.values():
                    ours += _call(model, port, f"{name}: {model.name}")
        return _compare(models, ours, service)


def _call(model: Model, port: int, label: str) -> Counter[tuple[str, bool]]:
    """Call a model over HTTP and count what came back."""
    counts: Counter[tuple[str, bool]] = Counter()
    client = http.client.HTTPConnection("127.0.0.1", port)
    with click.progressbar(range(CALLS), label=f"{label:<45}", file=sys.stderr) as calls:
        for _ in calls:
            features: list[float | None] = [*random.choice(model.rows)]
            if random.random() < FAILING:  # a value is missing, or a column too many
                features = [None, *features[1:]] if random.random() < 0.5 else [0.0, *features]
            body = json.dumps({"features": features})
            client.request("POST", f"/predict/{model.name}", body, {"Content-Type": "application/json"})
            response = client.getresponse()
            response.read()
            counts[model.name, response.status == 200] += 1
    return counts


def _compare(models: dict[str, Model], ours: Counter[tuple[str, bool]], port: int) -> int:
    print(f"\n{'model':<22} {'predictions':>14} {'failed':>12} {'average':>10} {'p50':>9} {'p99':>9}")
    print(f"{'':<22} {'ours  /stats':>14} {'ours /stats':>12} {'ms':>10} {'ms':>9} {'ms':>9}")
    differ = 0
    for name in models:
        client = http.client.HTTPConnection("127.0.0.1", port)
        client.request("GET", f"/api/v1/stats?{urlencode({'model_name': name})}")
        stats = json.loads(client.getresponse().read())
        predictions, failed = ours[name, True] + ours[name, False], ours[name, False]
        same = (stats["total_requests"], stats["failed_requests"], stats["dropped"]) == (predictions, failed, 0)
        differ += not same
        percentiles = stats["percentiles"]
        print(
            f"{name:<22} {predictions:>6}  {stats['total_requests']:>6} {failed:>6} {stats['failed_requests']:>5}"
            f" {stats['average_duration_ms']:>10.3f} {percentiles['50']:>9.3f} {percentiles['99']:>9.3f}"
            f"  {'the same' if same else 'DIFFERENT'}"
        )
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
