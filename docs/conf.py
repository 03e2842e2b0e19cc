"""How `make docs` makes pages of these files. No network is needed for it."""

from __future__ import annotations

import contextlib
import io
import re
import sys
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
ROOT = DOCS.parent
sys.path[:0] = [str(ROOT), str(ROOT / "client" / "src")]

project = "Predlog"
release = re.findall(r'__version__ = "(.+)"', (ROOT / "app/presentation/version.py").read_text())[0]
html_title = f"Predlog {release}"
html_theme = "furo"

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
myst_heading_anchors = 3
# "->" is written so in many places; "--" is an option of a program.
smartquotes = False

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
# Docstrings are plain text, with code in single backticks.
default_role = "code"


def make_fields(_app: object, _what: str, _name: str, _object: object, _options: object, lines: list[str]) -> None:
    """Make a field of each argument, which a docstring has as `name: meaning`."""
    lines[:] = [re.sub(r"^(\w+(?:, \w+)*): ", r":\1: ", line) for line in lines]


def setup(sphinx: Any) -> None:
    """Write the pages that are made of the code; they are no part of the repository."""
    from dataclasses import replace

    from app.factory import create_app
    from app.infrastructure.tables import metadata
    from config import load
    from tools import reference

    sphinx.connect("autodoc-process-docstring", make_fields)
    # Nothing asks the database for the document, and nobody needs the line of the log about it.
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        nowhere = replace(load(env_file=None), database_url="postgresql+psycopg2://nobody@localhost/nowhere")
        document = create_app(nowhere).test_client().get("/openapi.json").json
    pages = DOCS / "reference"
    pages.mkdir(exist_ok=True)
    for name, text in (("routes", reference.routes(document)), ("tables", reference.tables(metadata))):
        (pages / f"{name}.md").write_text(text)
