"""Write an audit line in the log whenever a key is made, rotated or revoked, or predictions or reports are removed."""

from __future__ import annotations

import getpass
import os
from typing import Any

import structlog
from flask import g, has_request_context, request

from app.domain.keys import ApiKey

log = structlog.get_logger("predlog.audit")


def audit(action: str, **facts: Any) -> None:
    """Write the line: an action such as `key.revoked`, and the facts about it, which must hold no secret."""
    log.info("audit", action=action, **facts, by=_caller())


def _caller() -> str:
    if not has_request_context():
        return f"{_account()} at the command line"
    key: ApiKey | None = g.get("key")
    who = f"key {key.id} ({key.name})" if key else "a caller without a key"
    return f"{who} from {request.environ.get('REMOTE_ADDR') or 'an unknown address'}"


def _account() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # an account without a name, as in some containers
        return f"user {os.getuid()}"
