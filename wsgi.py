"""The WSGI entry point: `wsgi:app` for any WSGI server, and what the `flask` command finds."""

import os

from app import create_app
from app.lifetime import FOLDER, end_with_master

if FOLDER in os.environ:  # started by `python -m app`
    end_with_master()

app = create_app()
