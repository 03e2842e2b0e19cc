"""The pages in docs/: they build without a warning, and what they say to do is done."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psycopg2
import pytest

from support.page import Reader
from support.replication import PostgresServer, plain_server
from support.service import ROOT

SEED_TABLE = """
CREATE TABLE prediction_logs
    (id serial, model_name varchar, duration_ms float, was_successful boolean, timestamp timestamp);
INSERT INTO prediction_logs (model_name, duration_ms, was_successful, timestamp)
SELECT 'apartment_price_v1', 132.6 + (n % 5 - 2) * 10, n % 25 > 0, timestamp '2025-06-01' + n * interval '20 minutes'
FROM   generate_series(1, 500) n
"""


def test_the_pages_build_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("sphinx")  # is for Python 3.11 and newer
    command = [sys.executable, "-m", "sphinx", "-E", "-W", "--keep-going", "--quiet", ROOT / "docs", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "index.html").is_file()


def test_the_tutorial_leads_from_a_model_server_to_an_alert(public_folder: Path) -> None:
    reader = Reader(public_folder, "tutorial", {"EMBEDDED_DATA_DIR": str(public_folder / "data")})
    reader.follow(ROOT / "docs" / "tutorial.md")


def test_the_seeds_table_is_moved_as_its_page_says(public_folder: Path) -> None:
    with plain_server() as server:
        url = server.url.replace("+psycopg2", "")
        with psycopg2.connect(url) as connection, connection.cursor() as cursor:
            cursor.execute(SEED_TABLE)
        connection.close()
        settings = {"SEED_URL": url, "EMBEDDED_DATA_DIR": str(public_folder / "data"), "PATH": path(server)}
        reader = Reader(public_folder, "seed", settings)
        reader.follow(ROOT / "docs" / "from-the-seed.md")


def test_it_is_deployed_without_containers_as_its_page_says(public_folder: Path) -> None:
    with plain_server() as server:
        settings = {"ADMIN_URL": server.url.replace("+psycopg2", ""), "PATH": path(server)}
        reader = Reader(public_folder, "deploy", settings, ports={"5432": server.port})
        reader.follow(ROOT / "docs" / "deploy.md", "Without containers")


def path(server: PostgresServer) -> str:
    """With Python's programs and this server's."""
    return f"{Path(sys.executable).parent}:{server.programs}:{os.environ['PATH']}"
