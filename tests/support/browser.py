"""A headless Chromium, what it asked for, and a WSGI server for it to ask."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from werkzeug.serving import WSGIRequestHandler, make_server

TIMEOUT = 150  # seconds; beside other work the list of all models that tests have made takes a minute
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
CHROMEDRIVER = shutil.which("chromedriver")
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
    # The browser itself would like to ask its makers about this and that: no name leads anywhere.
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
)  # fmt: skip


class QuietHandler(WSGIRequestHandler):
    """The server of these tests, which need no second log of requests."""

    def log(self, *_: Any) -> None:
        pass


@contextmanager
def served(app: Callable[..., Any], prefix: str = "") -> Iterator[str]:
    """Serve an application behind a proxy that takes a prefix off and says nothing; yields its address."""

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


@contextmanager
def chromium(profile: Path, size: str = "1400,1600") -> Iterator[Any]:
    """A browser with a profile of its own; skips the test if there is none."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    if not (CHROMIUM and CHROMEDRIVER):
        pytest.skip("no Chromium with its chromedriver is installed")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--window-size={size}", f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(CHROMEDRIVER))
    try:
        driver.set_page_load_timeout(TIMEOUT)
        driver.set_script_timeout(TIMEOUT)
        driver.get("about:blank")
        yield driver
    finally:
        driver.quit()


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
    """The value of an expression as soon as it is true."""
    from selenium.common.exceptions import JavascriptException
    from selenium.webdriver.support.wait import WebDriverWait

    # A page that is on its way has not all of its elements.
    wait = WebDriverWait(browser, TIMEOUT, ignored_exceptions=[JavascriptException])
    return wait.until(lambda driver: driver.execute_script(f"return {script}"))
