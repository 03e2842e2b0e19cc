"""kill -9 of one process of the service or of its database, under load: it serves again without help."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.infrastructure.embedded import running_urls
from faults import processes
from faults.load import TIMEOUT, Load, count_again
from support.service import Service, running


@pytest.fixture(scope="module")
def data() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="predlog-test-") as folder:
        Path(folder).chmod(0o755)  # if root starts the embedded server, it runs as another user
        yield Path(folder, "data")


@pytest.fixture(scope="module")
def service(data: Path) -> Iterator[Service]:
    with running(data.parent, EMBEDDED_DATA_DIR=str(data), AUTH="none") as service:
        yield service


VICTIMS: dict[str, Callable[[Service, Path], int]] = {
    "worker": lambda service, data: min(processes.workers(service)),
    "master": lambda service, data: processes.master(service),
    "postmaster": lambda service, data: processes.postmaster(data / "cluster"),
    "backend": lambda service, data: processes.backend(processes.postmaster(data / "cluster")),
}


@pytest.mark.parametrize("victim", VICTIMS)
def test_a_process_that_is_killed_is_replaced(
    service: Service, data: Path, model: str, load_s: float, victim: str
) -> None:
    service.wait_until_ready()
    number = len(processes.workers(service))
    with Load(model, [service.port]) as load:
        load.go_on(load_s)
        pid = VICTIMS[victim](service, data)
        moment = time.monotonic()
        processes.kill(pid)
        load.go_on(load_s + 1)
        service.wait_until_ready()
        until = time.monotonic() + TIMEOUT
        while len(processes.workers(service)) < number:
            assert time.monotonic() < until, "a worker is wanting"
            time.sleep(0.1)
        urls = running_urls(data)
        assert urls
        count_again(f"`kill -9` of the {victim}", load, urls.owner, service, moment)
