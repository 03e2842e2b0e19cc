"""The WSGI entry point: `wsgi:app` for any WSGI server, and what the `flask` command finds."""

from app import create_app

app = create_app()
