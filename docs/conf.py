"""How `make docs` makes pages of these files. No network is needed for it."""

from __future__ import annotations

import re
import sys
from pathlib import Path

DOCS = Path(__file__).parent
ROOT = DOCS.parent
sys.path[:0] = [str(ROOT), str(ROOT / "client" / "src")]

project = "Predlog"
release = re.findall(r'__version__ = "(.+)"', (ROOT / "app/presentation/version.py").read_text())[0]
html_title = f"Predlog {release}"
html_theme = "furo"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinxcontrib.mermaid"]
exclude_patterns = ["_build"]
myst_heading_anchors = 3
# GitHub draws a block with this word, too.
myst_fence_as_directive = ["mermaid"]
# "->" is written so in many places; "--" is an option of a program.
smartquotes = False
