"""The pages in docs/: they build without a warning, and what they say to do is done."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg2
import pytest
import yaml

from support.page import Block, Reader, blocks
from support.replication import PostgresServer, plain_server
from support.service import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DOCS = ROOT / "docs"
# Pages and sections, in this order: once there are keys, an export needs one.
COMMANDS = {"export.md": "", "sizing.md": "", "access.md": "Keys"}
OTHER_HOST = re.compile(
    r"""<(?:script|link|img|iframe)\b[^>]*?(?:src|href)="(?:https?:)?//[^"]*"|\bimport [^;<\n]*["']https?://"""
)
SEED_TABLE = """
CREATE TABLE prediction_logs
    (id serial, model_name varchar, duration_ms float, was_successful boolean, timestamp timestamp);
INSERT INTO prediction_logs (model_name, duration_ms, was_successful, timestamp)
SELECT 'apartment_price_v1', 132.6 + (n % 5 - 2) * 10, n % 25 > 0, timestamp '2025-06-01' + n * interval '20 minutes'
FROM   generate_series(1, 500) n
"""


def test_the_pages_build_without_a_warning_and_ask_no_other_host_for_anything(tmp_path: Path) -> None:
    pytest.importorskip("sphinx")  # is for Python 3.11 and newer
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "sphinx",
        "-E",
        "-W",
        "--keep-going",
        "--quiet",
        ROOT / "docs",
        tmp_path,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "index.html").is_file()
    for page in tmp_path.rglob("*.html"):
        assert not OTHER_HOST.findall(page.read_text()), page


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


def test_the_commands_of_other_pages_run(public_folder: Path) -> None:
    reader = Reader(public_folder, "commands", {"EMBEDDED_DATA_DIR": str(public_folder / "data")})
    start = Block("sh", {"in": "checkout", "port": "8000"}, "make run\n")
    pages = [blocks(DOCS / name, section) for name, section in COMMANDS.items()]
    reader.follow([start, *(block for page in pages for block in page)])
    assert (public_folder / "commands" / "predictions.csv").read_text().startswith("id,")


def test_every_command_on_the_pages_is_run_or_is_said_to_need_what_no_test_has() -> None:
    whole = {"tutorial.md": "", "from-the-seed.md": "", "backup.md": "", "upgrade.md": ""}
    followed = {**COMMANDS, **whole, "deploy.md": "Without containers"}
    left = {
        (page.name, block.text.split()[0])
        for page in DOCS.rglob("*.md")
        if "_build" not in page.parts
        for block in blocks(page)
        if block.language in ("sh", "console")
        and not (page.name in followed and block in blocks(page, followed[page.name]))
    }
    assert left == {
        ("doors.md", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://logs:8000/v1/traces"),  # settings, not commands
        ("replica-and-pgbouncer.md", "DATABASE_URL=postgresql://predlog:…@a:5432,b:5432/predlog"),
        ("replica-and-pgbouncer.md", "DATABASE_URL=postgresql://predlog:…@primary:5432/predlog"),
        ("replica-and-pgbouncer.md", "DATABASE_URL=postgresql://predlog_service:…@pgbouncer:6432/predlog"),
        ("deploy.md", "cp"),  # needs Docker
        ("metrics.md", "flask"),  # writes to /etc
        ("faults.md", "python"),  # the suite itself
    }


def snippets() -> list[tuple[str, Block]]:
    """Every block of code on the pages, in the READMEs and in the client's pages."""
    files = [
        *DOCS.rglob("*.md"),
        *ROOT.glob("*.md"),
        *(ROOT / "client").glob("*.md"),
        *(ROOT / "client/docs").glob("*.md"),
    ]
    own = [file for file in files if not {"_build", "reference"} & set(file.parts)]
    return [(file.relative_to(ROOT).as_posix(), block) for file in own for block in blocks(file)]


# What no test runs must at least be what it says it is: "…" stands for what the reader puts there.
PARSERS: dict[str, Callable[[str], object]] = {
    "python": lambda text: ast.parse(text.replace("…", "...")),
    "toml": tomllib.loads,
    "yaml": lambda text: list(yaml.safe_load_all(text)),
    "json": json.loads,
}
# Commands are run, as is SQL (tests/test_sql_page.py); the others have no parser here.
WITHOUT_A_PARSER = {"sh", "console", "sql", "ini", "promql", "text"}


@pytest.mark.parametrize("language", PARSERS)
def test_a_snippet_can_be_read_as_its_language(language: str) -> None:
    for page, block in snippets():
        if block.language == language:
            try:
                PARSERS[language](block.text)
            except (ValueError, SyntaxError, yaml.YAMLError) as error:
                pytest.fail(f"{page}: {error}\n{block.text}")


def test_there_is_no_snippet_in_a_language_that_no_test_knows() -> None:
    assert {block.language for _, block in snippets()} <= WITHOUT_A_PARSER | set(PARSERS)


def path(server: PostgresServer) -> str:
    """With Python's programs and this server's."""
    return f"{Path(sys.executable).parent}:{server.programs}:{os.environ['PATH']}"
