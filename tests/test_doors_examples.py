"""The examples for other languages do what they say; those of agents that are not here send what the agents would."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from urllib.request import Request, urlopen
from uuid import uuid4

import pytest
import yaml

from support import node
from support.service import ROOT, Service, clean_environment, running

EXAMPLES = Path(__file__).parents[1] / "examples/doors"
PATH = "/api/v1/predict-logs"
NODE = (node.toolchain() or (None,))[0]
COMMANDS = {
    "log.sh": ["sh"] if shutil.which("curl") else None,
    "log.mjs": [NODE] if NODE else None,
    "log.go": ["go", "run"] if shutil.which("go") else None,
    "Log.java": ["java"] if shutil.which("javac") else None,
}


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="predlog-test-") as folder:
        os.chmod(folder, 0o755)  # if root starts the embedded server, it runs as another user
        yield Path(folder)


@pytest.fixture(scope="module")
def service(folder: Path) -> Iterator[Service]:
    with running(folder, EMBEDDED_DATA_DIR=f"{folder}/data") as service:
        yield service


@pytest.fixture(scope="module")
def key(service: Service, folder: Path) -> str:
    """A key, without which the service takes nothing any more."""
    environment = clean_environment(EMBEDDED_DATA_DIR=f"{folder}/data")
    command = [sys.executable, "-m", "app", "keys", "create", "--scope", "admin", "--name", "doors"]
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def total(service: Service, key: str) -> int:
    path = "/api/v1/stats?model_name=apartment_price&model_version=3"
    return int(service.request("GET", path, headers={"X-API-Key": key})[1]["total_requests"])


@pytest.mark.parametrize("name", COMMANDS)
def test_an_example_logs_a_prediction(service: Service, key: str, name: str) -> None:
    command = COMMANDS[name]
    if command is None:
        pytest.skip("its runtime is not here")
    before = total(service, key)
    environment = {**os.environ, "PREDLOG_URL": f"http://127.0.0.1:{service.port}", "PREDLOG_API_KEY": key}
    done = subprocess.run(
        [*command, str(EXAMPLES / name)], env=environment, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    assert "stored" in done.stdout
    assert total(service, key) == before + 1


def records() -> list[dict[str, object]]:
    now = datetime.now(timezone.utc).isoformat()
    prediction = {"model_name": "apartment_price", "model_version": "3", "duration_ms": 1, "was_successful": True}
    return [{**prediction, "timestamp": now, "request_id": str(uuid4())} for _ in range(3)]


def post(service: Service, key: str, body: bytes, content_type: str) -> dict[str, int]:
    """As both agents send it: whole, with its length, gzipped."""
    headers = {"Content-Type": content_type, "Content-Encoding": "gzip", "X-API-Key": key}
    request = Request(f"http://127.0.0.1:{service.port}{PATH}", gzip.compress(body), headers)
    with urlopen(request, timeout=60) as answer:
        return dict(json.load(answer))


def test_what_vector_sends_is_taken(service: Service, key: str) -> None:
    sink = yaml.safe_load((EXAMPLES / "vector.yaml").read_text())["sinks"]["predlog"]
    assert sink["uri"].endswith(PATH)
    assert (sink["encoding"]["codec"], sink["framing"]["method"]) == ("json", "newline_delimited")
    body = b"".join(json.dumps(record).encode() + b"\n" for record in records())
    assert post(service, key, body, sink["request"]["headers"]["Content-Type"])["stored"] == 3


def test_what_fluent_bit_sends_is_taken(service: Service, key: str) -> None:
    (output,) = yaml.safe_load((EXAMPLES / "fluent-bit.yaml").read_text())["pipeline"]["outputs"]
    assert (output["uri"], output["format"], output["json_date_key"]) == (PATH, "json", False)
    assert post(service, key, json.dumps(records()).encode(), "application/json")["stored"] == 3
