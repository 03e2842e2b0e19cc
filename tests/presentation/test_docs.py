"""GET /docs and /redoc: pages that a browser shows whole without asking any other host."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urljoin, urlsplit
from urllib.request import urlopen

import pytest
from flask.testing import FlaskClient

from conftest import Server, make_app
from support.browser import chromium, requests_of, served, wait_for

PAGES = ("/docs", "/redoc")


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


@pytest.fixture(scope="module", params=["", "/ml/predlog"], ids=["at the root", "below a prefix"])
def address(request: pytest.FixtureRequest, servers: Callable[[str], Server]) -> Iterator[str]:
    """The address of the service: direct, and behind a proxy that takes a prefix off without headers about it."""
    with served(make_app(servers("plain").url), request.param) as address:
        yield address


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with chromium(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


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
