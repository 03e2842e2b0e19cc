"""The WSGI entry point: `wsgi:app` for any WSGI server, and what the `flask` command finds."""

import os
import sys

from app import create_app
from app.lifetime import FOLDER, end_with_master
from config import ConfigurationError

if FOLDER in os.environ:  # started by `python -m app`
    end_with_master()

try:
    app = create_app()
except ConfigurationError as error:
    sys.exit(f"predlog: {error}")
