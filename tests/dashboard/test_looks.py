"""Whether everybody can use the pages, and what they look like.

SCREENSHOTS=docs/screenshots keeps the pictures of the documentation; else nothing of them stays.
"""

from __future__ import annotations

import base64
import os
import random
import subprocess
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from dashboard.conftest import Page

from examples import demo
from examples.receiver import receiver
from support.node import toolchain
from support.service import running

AXE = "axe-core@4.11.0"
FOLDER = os.environ.get("SCREENSHOTS")
SIZES = {"wall": (1440, 900), "phone": (390, 844)}
VIEWS: dict[str, tuple[str, dict[str, str], str, str]] = {
    "overview": ("", {}, "wall", "light"),
    "overview-dark": ("", {}, "wall", "dark"),
    "overview-phone": ("", {}, "phone", "light"),
    "model": ("/model", {"model_name": "checkout_fraud"}, "wall", "light"),
    "model-dark": ("/model", {"model_name": "search_ranking"}, "wall", "dark"),
    "model-phone": ("/model", {"model_name": "checkout_fraud"}, "phone", "dark"),
    "alerts": ("/alerts", {}, "wall", "light"),
    "explore": ("/explore", {"was_successful": "false"}, "wall", "light"),
    "explore-phone": ("/explore", {}, "phone", "light"),
}


@pytest.fixture(scope="module")
def told() -> list[str]:
    """The messages about alerts that have come so far."""
    return []


@pytest.fixture(scope="module")
def address(told: list[str]) -> Iterator[str]:
    """A service with the predictions of the demo."""
    with tempfile.TemporaryDirectory(prefix="predlog-test-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # if root starts the database, it runs as another user
        settings = {"EMBEDDED_DATA_DIR": str(folder / "data"), "ALERTS_FILE": str(demo.ALERTS), "WORKERS": "1"}
        with receiver(told.append) as webhook, running(folder, DEMO_WEBHOOK_URL=webhook, **settings) as service:
            random.seed(1)
            address = f"http://127.0.0.1:{service.port}"
            demo.fill(address, datetime.now(timezone.utc))
            yield address


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The text of axe-core, from npm."""
    tools = toolchain()
    if tools is None:
        pytest.skip("no npm is here")
    folder = tmp_path_factory.mktemp("axe")
    command = [*tools[1], "install", "--no-audit", "--no-fund", "--prefix", str(folder), AXE]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=120)
    except (subprocess.SubprocessError, OSError) as error:
        pytest.skip(f"axe-core cannot be had from npm: {error}")
    return (folder / "node_modules/axe-core/axe.min.js").read_text()


@pytest.fixture(params=VIEWS)
def view(request: pytest.FixtureRequest, page: Page) -> Iterator[str]:
    """One page, at one size, in one theme."""
    path, query, size, theme = VIEWS[request.param]
    width, height = SIZES[size]
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": size == "phone"}
    page.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    theme_of_system = {"features": [{"name": "prefers-color-scheme", "value": theme}]}
    page.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", theme_of_system)
    page.open(path, zone="Europe/Berlin", **query)
    yield request.param
    page.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    page.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_the_bad_release_of_the_demo_is_told_once_and_shown(page: Page, told: list[str]) -> None:
    page.open("/alerts")
    rule = "[...document.querySelectorAll('[data-rule=\"many errors\"]')].map(row => row.textContent).join()"

    def messages() -> list[str]:
        return [text for text in told if "many errors, model checkout_fraud" in text]

    until = time.monotonic() + 120
    while "checkout_fraud" not in page.run(f"return {rule}") or not messages():
        assert time.monotonic() < until, told
        time.sleep(1)
        page.browser.switch_to.active_element.send_keys("r")
    assert "firing" in page.run(f"return {rule}")
    assert len(messages()) == 1


def violations(page: Page, axe: str) -> list[str]:
    page.run(f"{axe}; window.axe = axe")
    found = page.browser.execute_async_script(
        "const done = arguments[0]; const failed = e => done([{id: String(e), nodes: []}]);"
        "axe.run(document, {resultTypes: ['violations']}).then(found => done(found.violations), failed)"
    )
    return [f"{each['id']}: {node['html'][:200]}" for each in found for node in each["nodes"] or [{"html": ""}]]


def test_axe_finds_no_barrier_for_people_with_disabilities(page: Page, view: str, axe: str) -> None:
    assert violations(page, axe) == []


@pytest.mark.parametrize("what", ["#range-custom", "tr[data-id] .link"])
def test_axe_finds_nothing_in_what_can_be_opened(page: Page, axe: str, what: str) -> None:
    page.open("/explore", zone="Europe/Berlin")
    page.click(what)
    page.wait_for("!document.querySelector('#custom').hidden || document.querySelector('#prediction pre')")
    assert violations(page, axe) == []


def test_nothing_is_wider_than_the_screen(page: Page, view: str) -> None:
    assert page.run("return document.documentElement.scrollWidth <= innerWidth")


def test_a_picture_of_it_can_be_taken(page: Page, view: str, tmp_path: Path) -> None:
    page.wait_for("[...document.querySelectorAll('.spark-all')].every(e => e.getAttribute('d'))")
    whole = page.browser.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
    clip: dict[str, Any] = {}
    if view.startswith("model"):
        clip = {
            "captureBeyondViewport": True,
            "clip": {"x": 0, "y": 0, "width": whole["width"], "height": min(whole["height"], 1330), "scale": 1},
        }
    picture = base64.b64decode(
        page.browser.execute_cdp_cmd("Page.captureScreenshot", {"format": "png", **clip})["data"]
    )
    folder = Path(FOLDER) if FOLDER else tmp_path
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{view}.png").write_bytes(picture)
    assert 10_000 < len(picture) < 600_000
