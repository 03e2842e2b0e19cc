"""`python -m predlog` is the `predlog` command."""

from __future__ import annotations

import sys

from predlog.cli.main import main

sys.exit(main())
