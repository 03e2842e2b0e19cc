"""Read alerts.toml: rules and webhooks, each value checked, with errors that name the place."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import marshmallow as ma
from marshmallow.validate import Range

from app.domain.alert_rules import Rule
from app.infrastructure.alerts.rule_schemas import MEASURES, Duration, text
from app.infrastructure.alerts.webhooks import SLACK, Webhook, read_template

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MAX_SECRET_BYTES = 64 * 1024


class AlertFileError(Exception):
    """The file of the alerts is invalid; the text names the place and the reason, and holds no secret."""


@dataclass(frozen=True)
class AlertFile:
    """The content of the file."""

    rules: tuple[Rule, ...]
    webhooks: tuple[Webhook, ...]
    every: timedelta


class WebhookSchema(ma.Schema):
    """A webhook; one of url_env, url_file and url gives its address."""

    name = text(required=True)
    url = text()
    url_env = text()
    url_file = text()
    template = ma.fields.String()


class FileSchema(ma.Schema):
    """The file as a whole."""

    every = Duration(load_default=timedelta(seconds=30), validate=Range(min=timedelta(seconds=1)))
    rule = ma.fields.List(ma.fields.Dict(), load_default=[])
    webhook = ma.fields.List(ma.fields.Nested(WebhookSchema), load_default=[])


def read(path: Path, environment: Mapping[str, str] = os.environ) -> AlertFile:
    """Read the file and the secrets that it names. Raises AlertFileError."""
    try:
        with path.open("rb") as file:
            content = tomllib.load(file)
    except OSError as error:
        raise AlertFileError(f"{path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise AlertFileError(f"{path} is not TOML: {error}") from None
    except ValueError:
        raise AlertFileError(f"{path}: A number has too many digits.") from None
    try:
        data = FileSchema().load(content)
        webhooks = tuple(_webhook(webhook, path.parent, environment) for webhook in data["webhook"])
        _check_names("webhook", [webhook.name for webhook in webhooks])
        known = {webhook.name for webhook in webhooks}
        rules = tuple(_rule(number, rule, known) for number, rule in enumerate(data["rule"], 1))
        _check_names("rule", [rule.name for rule in rules])
    except ma.ValidationError as error:
        raise AlertFileError(f"{path}: {_in_words(error.messages)}") from None
    return AlertFile(rules, webhooks, data["every"])


def _rule(number: int, written: Mapping[str, Any], webhooks: set[str]) -> Rule:
    place = f"rule {number} ({written.get('name', 'without a name')})"
    measure = written.get("measure")
    if not isinstance(measure, str) or measure not in MEASURES:
        raise ma.ValidationError({place: {"measure": [f"Must be one of {', '.join(MEASURES)}."]}})
    try:
        rule: Rule = MEASURES[measure]().load(written)
        if unknown := sorted(set(rule.webhooks) - webhooks):
            raise ma.ValidationError({"webhooks": [f"There is no webhook {', '.join(unknown)} in this file."]})
        _check_names("webhooks", list(rule.webhooks))
    except ma.ValidationError as error:
        raise ma.ValidationError({place: error.messages}) from None
    return rule


def _webhook(data: Mapping[str, Any], folder: Path, environment: Mapping[str, str]) -> Webhook:
    try:
        url = _url(data, folder, environment)
        if not _is_web_address(url):
            raise ValueError("The address is no URL that begins with http:// or https:// and has no user name.")
        if not (url.isascii() and url.isprintable()):
            raise ValueError(
                "The address has other characters than printable ASCII: write them as %XX, a host as xn--…."
            )
        template = read_template(data.get("template", SLACK))
    except ValueError as error:
        raise ma.ValidationError({f"webhook {data['name']}": [str(error)]}) from None
    return Webhook(data["name"], url, template, is_slack="template" not in data)


def _is_web_address(url: str) -> bool:
    """Whether messages can be sent there; a user name in an address would be taken for a part of the host."""
    try:
        parts = urlsplit(url)
        has_host = parts.hostname and parts.port != 0 and parts.username is None
    except ValueError:  # its text has the host, and what stands before it, in it
        return False
    return parts.scheme in ("http", "https") and bool(has_host) and not any(c.isspace() for c in url)


def _url(data: Mapping[str, str], folder: Path, environment: Mapping[str, str]) -> str:
    if sum(name in data for name in ("url", "url_env", "url_file")) != 1:
        raise ValueError("Give one of url_env, url_file and url.")
    if "url_env" in data:
        if "/" in data["url_env"]:  # it may be the secret itself
            raise ValueError("url_env: Give the name of an environment variable that has the address.")
        if not (url := environment.get(data["url_env"], "").strip()):
            raise ValueError(f"url_env: {data['url_env']} is not set.")
        return url
    if "url_file" in data:
        if "://" in data["url_file"]:
            raise ValueError("url_file: Give the name of a file that has the address.")
        try:
            with (folder / data["url_file"]).open("rb") as file:
                return file.read(MAX_SECRET_BYTES).decode().strip()
        except (OSError, UnicodeDecodeError):
            raise ValueError(f"url_file: {data['url_file']} cannot be read.") from None
    return data["url"]


def _check_names(kind: str, names: list[str]) -> None:
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ma.ValidationError({kind: [f"There are two with the name {twice[0]}."]})


def _in_words(messages: Any, path: str = "") -> str:
    """Return the errors of marshmallow as one line, each with its place in the file."""
    if isinstance(messages, dict):
        places = [(f"{path}: {key}" if path else str(key), part) for key, part in messages.items() if key != "_schema"]
        rest = [(path, messages["_schema"])] if "_schema" in messages else []
        return "; ".join(_in_words(part, place) for place, part in (*places, *rest))
    return f"{path}: {' '.join(map(str, messages))}" if isinstance(messages, list) else f"{path}: {messages}"
