"""GET /docs and /redoc: pages that a browser shows whole without asking any other host."""

from __future__ import annotations

import json
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any
from urllib.parse import urljoin, urlsplit
from urllib.request import urlopen

import pytest
from flask.testing import FlaskClient
from werkzeug.serving import WSGIRequestHandler, make_server

from conftest import Server, make_app

PAGES = ("/docs", "/redoc")
TIMEOUT = 60
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
CHROMEDRIVER = shutil.which("chromedriver")
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--window-size=1400,1600",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
    # The browser itself would like to ask its makers about this and that: no name leads anywhere.
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
)  # fmt: skip


@pytest.mark.parametrize("page", PAGES)
def test_a_page_names_no_other_host(away: FlaskClient, page: str) -> None:
    response = away.get(page)
    assert (response.status_code, response.mimetype) == (200, "text/html")
    assert not re.findall(r"(?:https?:)?//[^\s\"']+", response.text)


@pytest.mark.parametrize("page", PAGES)
def test_the_files_of_a_page_are_served_and_may_be_kept(away: FlaskClient, page: str) -> None:
    files = re.findall(r'(?:src|href)="(docs/[^"]+)"', away.get(page).text)
    assert files
    for file in files:
        with away.get(urljoin(page, file)) as response:
            assert response.status_code == 200, file
            assert response.mimetype in ("text/css", "text/javascript", "application/javascript")
            assert "max-age" in response.headers["Cache-Control"]


class QuietHandler(WSGIRequestHandler):
    """The server of these tests, which need no second log of requests."""

    def log(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module", params=["", "/ml/predlog"], ids=["at the root", "below a prefix"])
def address(request: pytest.FixtureRequest, servers: Callable[[str], Server]) -> Iterator[str]:
    """Where a browser finds the service: by itself, and behind a proxy that takes a prefix off and says nothing."""
    app, prefix = make_app(servers("plain").url), request.param

    def proxy(environ: dict[str, Any], start_response: Any) -> Any:
        assert environ["PATH_INFO"].startswith(prefix)
        return app(environ | {"PATH_INFO": environ["PATH_INFO"][len(prefix) :]}, start_response)

    server = make_server("127.0.0.1", 0, proxy, threaded=True, request_handler=QuietHandler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}{prefix}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    if not (CHROMIUM and CHROMEDRIVER):
        pytest.skip("no Chromium with its chromedriver is installed")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    with ExitStack() as stack:
        driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(CHROMEDRIVER))
        stack.callback(driver.quit)
        driver.set_page_load_timeout(TIMEOUT)
        driver.get("about:blank")
        yield driver


def requests_of(browser: Any) -> list[str]:
    """The URLs that were asked for since the last call, but those that the page itself forbids to be sent."""
    asked, forbidden = {}, set()
    for entry in browser.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        parameters = message["params"]
        if message["method"] == "Network.requestWillBeSent":
            asked[parameters["requestId"]] = parameters["request"]["url"]
        elif message["method"] == "Network.webSocketCreated":
            asked[parameters["requestId"]] = parameters["url"]
        elif message["method"] == "Network.loadingFailed" and parameters.get("blockedReason") == "csp":
            forbidden.add(parameters["requestId"])
    return [url for id, url in asked.items() if id not in forbidden and url.startswith(("http", "ws"))]


def wait_for(browser: Any, script: str) -> Any:
    from selenium.webdriver.support.wait import WebDriverWait

    return WebDriverWait(browser, TIMEOUT).until(lambda driver: driver.execute_script(f"return {script}"))


SHOWN = {
    "/docs": "[...document.querySelectorAll('.opblock-summary')].map(e => e.innerText)",
    "/redoc": "[...document.querySelectorAll('[data-section-id] h2')].map(e => e.innerText)",
}


@pytest.mark.parametrize("page", PAGES)
def test_a_page_shows_every_operation_and_no_request_leaves_the_host(browser: Any, address: str, page: str) -> None:
    requests_of(browser), browser.get_log("browser")  # what was before
    browser.get(address + page)
    with urlopen(f"{address}/openapi.json") as response:
        document = json.load(response)
    operations = [
        operation for item in document["paths"].values() for operation in item.values() if "summary" in operation
    ]
    assert len(operations) >= 9
    wait_for(browser, f"{SHOWN[page]}.length >= {len(operations)}")
    text = browser.execute_script("return document.body.innerText")
    for operation in operations:
        assert operation["summary"] in text
    browser.execute_script("window.scrollTo(0, document.body.scrollHeight)")
    wait_for(browser, "document.readyState === 'complete' && [...document.images].every(i => i.complete)")
    requests = requests_of(browser)
    assert f"{address}/openapi.json" in requests
    assert {urlsplit(url).hostname for url in requests} == {"127.0.0.1"}, requests
    errors = [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert not [error for error in errors if "Content Security Policy" not in error], errors


def test_a_call_can_be_tried_out_on_the_page(browser: Any, address: str) -> None:
    browser.get(f"{address}/docs")
    operation = "document.querySelector('#operations-predictions-post_api_v1_predict_log')"
    wait_for(browser, f"{operation} !== null")
    browser.execute_script(f"{operation}.querySelector('.opblock-summary-control').click()")
    wait_for(browser, f"{operation}.querySelector('button.execute') !== null")
    browser.execute_script(f"{operation}.querySelector('button.execute').click()")
    shown = wait_for(
        browser, f"{operation}.querySelector('.live-responses-table .response .response-col_status')?.innerText"
    )
    assert shown.startswith("200")
