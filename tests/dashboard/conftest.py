"""Pages in a headless Chromium, with real data on both engines."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen
from uuid import uuid4

import pytest

from conftest import Server, make_app
from support.browser import TIMEOUT, chromium, served, wait_for

STATE = "document.documentElement.dataset.state"


class Page:
    """A browser that looks at one service."""

    def __init__(self, browser: Any, address: str) -> None:
        self.browser, self.address = browser, address

    def open(self, path: str = "", **parameters: Any) -> None:
        """Open a page below /dashboard and wait until it shows its figures."""
        self.browser.get_log("browser")  # what was before
        self.browser.get(f"{self.address}/dashboard{path}?{urlencode(parameters)}")
        self.wait_for(f"{STATE} === 'ready'")

    def wait_for(self, script: str) -> Any:
        return wait_for(self.browser, script)

    def run(self, script: str, *arguments: Any) -> Any:
        return self.browser.execute_script(script, *arguments)

    def find(self, selector: str) -> Any:
        return self.browser.find_element("css selector", selector)

    def click(self, selector: str) -> None:
        self.wait_for(f"document.querySelector({json.dumps(selector)}) !== null")
        self.run("arguments[0].scrollIntoView({block: 'center'}); arguments[0].click()", self.find(selector))

    def texts(self, selector: str) -> list[str]:
        """What is written in each element, seen or not."""
        return list(self.run("return [...document.querySelectorAll(arguments[0])].map(e => e.textContent)", selector))

    def values(self, selector: str) -> list[float | None]:
        """The exact figures that stand behind what is written in each element."""
        values = self.run("return [...document.querySelectorAll(arguments[0])].map(e => e.dataset.value)", selector)
        return [float(value) if value else None for value in values]

    def press(self, key: str) -> None:
        self.browser.switch_to.active_element.send_keys(key)

    @contextmanager
    def answered(self, part: str, body: Any, status: int = 200) -> Iterator[None]:
        """Answer all that the pages ask for at addresses that hold `part` in place of the service."""
        script = f"""{{ (window.fetches ??= []).push(window.fetch);
            const send = window.fetch;
            window.fetch = (url, options) => String(url).includes({json.dumps(part)})
                ? Promise.resolve(new Response({json.dumps(json.dumps(body))}, {{status: {status}}}))
                : send(url, options); }}"""
        on_new_page = "Page.addScriptToEvaluateOnNewDocument"
        added = self.browser.execute_cdp_cmd(on_new_page, {"source": script})
        self.run(script)
        try:
            yield
        finally:
            self.browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)
            self.run("window.fetch = window.fetches.pop()")

    def get(self, path: str, **parameters: Any) -> Any:
        """What the API answers."""
        query = urlencode({name: value for name, value in parameters.items() if value is not None}, doseq=True)
        with urlopen(f"{self.address}/api/v1/{path}?{query}", timeout=TIMEOUT) as response:
            return json.load(response)

    def hold(self, part: str) -> None:
        """Hold back requests whose address has this part until `release()`."""
        self.run(
            """const [part] = arguments, send = window.fetch, held = [];
            window.fetch = (url, options) => String(url).includes(part)
              ? new Promise((resolve, reject) => held.push(() => send(url, options).then(resolve, reject)))
              : send(url, options);
            window.release = () => {
              window.fetch = send;
              return Promise.all(held.map((go) => go()));
            };""",
            part,
        )

    def release(self) -> None:
        """Send what was held back, and wait until the page has dealt with the answers."""
        self.browser.execute_async_script("const done = arguments[0]; release().then(done, done)")
        self.settle()

    def settle(self) -> None:
        """Wait until the page has dealt with the answers that it has."""
        self.browser.execute_async_script("setTimeout(arguments[0], 100)")

    @property
    def counted(self) -> dict[str, str]:
        """The range that the page says it has counted, as parameters of the API."""
        footer = self.find("#counted")
        return {"from": footer.get_attribute("data-from"), "to": footer.get_attribute("data-to")}

    @property
    def problems(self) -> list[str]:
        """What the browser had to complain of since the page was opened."""
        return [entry["message"] for entry in self.browser.get_log("browser") if entry["level"] == "SEVERE"]


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with chromium(tmp_path_factory.mktemp("chromium"), "1400,1000") as browser:
        # Nothing but what a test does itself makes a page ask again.
        browser.execute_cdp_cmd(
            "Page.addScriptToEvaluateOnNewDocument", {"source": "localStorage.setItem('predlog-live', 'off')"}
        )
        yield browser


@pytest.fixture(scope="session")
def address(server: Server) -> Iterator[str]:
    """The address of the service behind a proxy that takes a prefix off without headers about it."""
    app = make_app(server.service_url, database_direct_url=server.url, pool_size=8 if server.concurrent else 1)
    with served(app, "/ml/predlog") as address:
        yield address


@pytest.fixture
def page(browser: Any, address: str) -> Page:
    return Page(browser, address)


@pytest.fixture
def log(address: str) -> Callable[[list[dict[str, Any]]], None]:
    """Log predictions through the API."""
    from urllib.request import Request

    def log(records: list[dict[str, Any]]) -> None:
        body = json.dumps(records).encode()
        request = Request(f"{address}/api/v1/predict-logs", body, {"Content-Type": "application/json"})
        with urlopen(request, timeout=TIMEOUT) as response:
            assert json.load(response)["stored"] == len(records)

    return log


@pytest.fixture
def start() -> datetime:
    """Ten o'clock UTC the day before yesterday: nothing of what is logged then changes any more."""
    now = datetime.now(timezone.utc)
    return now.replace(hour=10, minute=0, second=0, microsecond=0) - timedelta(days=2)


@pytest.fixture
def story(log: Callable[[list[dict[str, Any]]], None], start: datetime) -> str:
    """A model with a good version and a bad one after it; its name."""
    name = f"story-{uuid4().hex}"
    records = []
    for number in range(600):
        is_bad = number >= 400
        failed = number % 5 == 0 if is_bad else number % 100 == 0
        record = {
            "model_name": name,
            "model_version": "2" if is_bad else "1",
            "duration_ms": (50 if is_bad else 20) + (number * 37 % 101) / 3,
            "was_successful": not failed,
            "timestamp": (start + timedelta(seconds=61 * number)).isoformat(),
            "metadata": {"number": number},
        }
        if failed:
            record["error"] = f"KeyError: 'age' of customer {number}" if is_bad else f"TimeoutError after {number} ms"
        records.append(record)
    log(records)
    return name
