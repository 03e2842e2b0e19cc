"""What people read of the settings, made from their declarations: .env.example, docs/settings.md, `--help`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from textwrap import fill

from app.settings.declaration import Setting, declared
from config import COMMAND_SECRETS, SECRETS, SECTIONS, Config, DatabaseParts

WIDTH = 120
COMPOSE_SECRETS = {
    "DB_PASSWORD": "The database's owner, who migrates.",
    **COMMAND_SECRETS,
    "GRAFANA_ADMIN_PASSWORD": "Grafana's first log-in.",
}
ENV_HEAD = """\
Made by `make settings` from config.py. Copy it to .env and change what you need; the environment goes before that \
file. Everything here is the default, and what is commented out has none.

Instead of a secret, NAME_FILE may name a file that holds it: {files}. The last three are for the commands that need \
them.

docker-compose.yml wants five secrets here, which have no default:"""
MARKDOWN_HEAD = """\
# Settings

<!-- Made by `make settings` from config.py. -->

They are read from the environment and from `.env`, of which the environment goes first. A bad value stops the start
with a sentence that names it. Instead of a secret, `NAME_FILE` may name a file that holds it in one line. To set both
is refused.
"""


def sections() -> dict[str, list[Setting]]:
    """The settings by the titles of their sections."""
    found: dict[str, list[Setting]] = {title: [] for title in SECTIONS.values()}
    title = ""
    for setting in declared(Config):
        title = SECTIONS.get(setting.name, title)
        found[title].append(setting)
    found[SECTIONS["DATABASE_URL"]] += declared(DatabaseParts)
    return found


def env_example() -> str:
    """The text of .env.example."""
    return "\n".join([_env_head(), *(_env_section(title, settings) for title, settings in sections().items())])


def _env_head() -> str:
    text = ENV_HEAD.format(files=", ".join(f"{name}_FILE" for name in SECRETS))
    secrets = [f"#   {name:<25} {meaning}" for name, meaning in COMPOSE_SECRETS.items()]
    return "\n".join([*map(_comment, text.splitlines()), *secrets]) + "\n"


def _env_section(title: str, settings: list[Setting]) -> str:
    lines = [f"# --- {title.lower()} ".ljust(WIDTH, "-")]
    for setting in settings:
        mark = "" if setting.default_text else "#"
        lines += [_comment(setting.meaning), f"{mark}{setting.name}={setting.default_text or setting.example}"]
    return "\n".join(lines) + "\n"


def _comment(text: str) -> str:
    return _wrapped(text, WIDTH, "# ") or "#"


def _wrapped(text: str, width: int, indent: str) -> str:
    """Lines of at most `width` characters; addresses and paths are not broken."""
    return fill(
        text, width, initial_indent=indent, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def markdown() -> str:
    """The text of docs/settings.md."""
    parts = [MARKDOWN_HEAD]
    for title, settings in sections().items():
        rows = [
            f"| `{setting.name}` | {setting.kind.description} | {_code(setting)} | {_cell(setting.meaning)} |"
            for setting in settings
        ]
        parts.append(
            "\n".join([f"## {title}\n", "| name | value | default | meaning |", "|---|---|---|---|", *rows, ""])
        )
    rows = [f"| `{name}` | {_cell(meaning)} |" for name, meaning in COMMAND_SECRETS.items()]
    parts.append("\n".join(["## Secrets of commands\n", "| name | meaning |", "|---|---|", *rows, ""]))
    return "\n".join(parts)


def _code(setting: Setting) -> str:
    return f"`{setting.default_text}`" if setting.default_text else ""


def _cell(text: str) -> str:
    # A star is one, and no emphasis.
    return text.replace("|", r"\|").replace("*", r"\*")


def help_text() -> str:
    """All settings, as a terminal shows them."""
    return "\n".join(_help_lines())


def _help_lines() -> Iterator[str]:
    for title, settings in sections().items():
        yield f"\n{title.lower()}:"
        for setting in settings:
            default = f" ({setting.default_text})" if setting.default_text else ""
            yield f"  {setting.name}{default}"
            yield _wrapped(setting.meaning, 79, " " * 6)


PAGES: dict[str, Callable[[], str]] = {"env": env_example, "markdown": markdown, "help": help_text}

if __name__ == "__main__":
    print(PAGES[sys.argv[1]](), end="")
