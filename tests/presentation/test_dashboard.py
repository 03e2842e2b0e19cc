"""GET /dashboard and below: pages without figures, and their files."""

from __future__ import annotations

import gzip
import re
from urllib.parse import urljoin

import pytest
from flask.testing import FlaskClient

from app.presentation.dashboard.files import STATIC, digest, files

PAGES = ("/dashboard", "/dashboard/model", "/dashboard/explore", "/dashboard/alerts")
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"


def addresses(away: FlaskClient, page: str) -> list[str]:
    found = re.findall(r'(?:src|href)="([^"]+)"', away.get(page).text)
    return [urljoin(page, address) for address in found if not address.startswith("#")]


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_there_while_the_database_is_away(away: FlaskClient, page: str) -> None:
    response = away.get(page)
    assert (response.status_code, response.mimetype) == (200, "text/html")


@pytest.mark.parametrize("page", PAGES)
def test_a_page_names_no_other_host_and_only_files_that_exist(away: FlaskClient, page: str) -> None:
    assert not re.findall(r"(?:https?:)?//[^\s\"']+", away.get(page).text)
    found = addresses(away, page)
    assert len(found) > 8
    for address in found:
        with away.get(address) as response:
            assert response.status_code == 200, address


@pytest.mark.parametrize("page", PAGES)
def test_nothing_inline_may_run_and_text_cannot_become_html(away: FlaskClient, page: str) -> None:
    response = away.get(page)
    policy = response.headers["Content-Security-Policy"]
    assert "unsafe" not in policy and "nonce" not in policy and "require-trusted-types-for 'script'" in policy
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", response.text)


@pytest.mark.parametrize("page", PAGES)
def test_every_module_that_a_page_imports_is_one_of_its_files(page: str) -> None:
    for path in STATIC.glob("*.js"):
        for name in re.findall(r'from "\./([^"]+)"', path.read_text()):
            assert name in files(), f"{path.name} imports {name}"


def test_a_browser_that_asks_for_the_root_is_led_to_the_dashboard(away: FlaskClient) -> None:
    response = away.get("/", headers={"Accept": BROWSER})
    assert (response.status_code, response.headers["Location"]) == (302, "dashboard")


@pytest.mark.parametrize("accept", ["application/json", "*/*", None, "application/json, text/html;q=0.9", "text/plain"])
def test_a_client_that_does_not_ask_for_html_gets_json_at_the_root(away: FlaskClient, accept: str | None) -> None:
    response = away.get("/", headers={"Accept": accept} if accept else {})
    assert (response.status_code, response.json["name"]) == (200, "Predlog")


@pytest.mark.parametrize("query", ["", "?range=1h&search=a%26b+c", "?search=%C3%A9%0D%0A"])
def test_an_address_with_a_slash_at_its_end_leads_to_the_one_without(away: FlaskClient, query: str) -> None:
    response = away.get(f"/dashboard/{query}")
    assert urljoin("/dashboard/", response.headers["Location"]) == f"/dashboard{query}"


@pytest.mark.parametrize("name", ["overview.js", "dashboard.css", "chart.js", "logo.svg"])
def test_a_file_is_sent_compressed_and_may_be_kept_for_good(away: FlaskClient, name: str) -> None:
    url = f"/dashboard/static/{digest()}/{name}"
    plain, packed = away.get(url), away.get(url, headers={"Accept-Encoding": "br, gzip"})
    assert "Content-Encoding" not in plain.headers
    assert packed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed.data) == plain.data == files()[name].content
    assert "immutable" in packed.headers["Cache-Control"]
    assert plain.headers["ETag"] != packed.headers["ETag"]
    again = away.get(url, headers={"Accept-Encoding": "gzip", "If-None-Match": packed.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")


def test_a_file_of_another_version_is_not_kept(away: FlaskClient) -> None:
    response = away.get("/dashboard/static/0123456789abcdef/overview.js")
    assert (response.status_code, response.headers["Cache-Control"]) == (200, "no-store")


@pytest.mark.parametrize("name", ["no.js", "..%2fpages.py", "../pages.py", "dashboard.css.map"])
def test_there_are_no_other_files(away: FlaskClient, name: str) -> None:
    assert away.get(f"/dashboard/static/{digest()}/{name}").status_code == 404


def test_all_files_together_are_light() -> None:
    assert sum(len(file.compressed) for file in files().values()) < 200_000
