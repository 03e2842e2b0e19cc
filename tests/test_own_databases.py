"""What works on a database of its own never touches one that the environment or a developer's .env names."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from unittest.mock import patch
from urllib.request import urlopen

import pytest

from app.settings import kinds
from config import SETTINGS, load
from examples.processes import NO_DATABASE, free_port, server
from support.service import ROOT, clean_environment

ADDRESSES = [each.name for each in SETTINGS if each.kind.description == kinds.database(writes=True).description]
NAMES = {"DB_HOST", *ADDRESSES, *(f"{name}_FILE" for name in ADDRESSES)}
TELLS_ITS_ENVIRONMENT = """
import http.server, json, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(dict(os.environ)).encode())
http.server.HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""


def test_every_setting_that_names_a_database_is_blank() -> None:
    assert ADDRESSES
    assert dict.fromkeys(NAMES, "") == NO_DATABASE


@pytest.mark.parametrize("path", ["Makefile", "client/tests/hosts/service.py"])
def test_the_same_are_blank_where_python_cannot_import_them(path: str) -> None:
    text = (ROOT / path).read_text()
    assert set(re.findall(r"\b(?:DATABASE|DB)_[A-Z_]+", text)) == NAMES
    assert text.count("NO_DATABASE") == 2, "made and used"


def test_blanks_go_before_any_database_of_an_env_file(tmp_path: Path) -> None:
    address = tmp_path / "address"
    address.write_text("postgresql://in.use/predlog")
    lines = [f"{name}={address if name.endswith('_FILE') else address.read_text()}" for name in sorted(NAMES)]
    for line in lines:
        (tmp_path / ".env").write_text(line)
        with patch.dict(os.environ, NO_DATABASE):
            config = load(str(tmp_path / ".env"))
        assert (config.database_url, config.database_read_url, config.database_direct_url) == (None, None, None), line


def test_a_server_of_the_examples_is_told_of_no_database(tmp_path: Path) -> None:
    with (
        patch.dict(os.environ, dict.fromkeys(NAMES, "in use")),
        server("Teller", ["-c", TELLS_ITS_ENVIRONMENT], "/", tmp_path, free_port()) as port,
        urlopen(f"http://127.0.0.1:{port}/", timeout=60) as answer,
    ):
        told = json.load(answer)
    assert {name: told[name] for name in NAMES} == dict.fromkeys(NAMES, "")
    assert Path(told["EMBEDDED_DATA_DIR"]).parent == tmp_path


def test_a_service_of_the_tests_is_told_of_no_database_but_its_own() -> None:
    with patch.dict(os.environ, dict.fromkeys(NAMES, "in use")):
        told = clean_environment(DATABASE_URL="postgresql://own/predlog")
    assert {name: told[name] for name in NAMES} == {
        **dict.fromkeys(NAMES, ""), "DATABASE_URL": "postgresql://own/predlog"
    }  # fmt: skip
