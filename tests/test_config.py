"""Settings from the environment and from .env: read strictly, and refused in a sentence that gives no secret away."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from environs import Env
from sqlalchemy import make_url

from app.settings.declaration import Setting
from app.settings.pages import env_example, help_text, markdown
from config import COMMAND_SECRETS, NAMES, SECRETS, SETTINGS, Config, ConfigurationError, load

REPOSITORY = Path(__file__).parents[1]
PASSWORD = "h4rd-to-guess"
Settings = Callable[..., Config]


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    """Load with this environment and nothing else, and with this text as .env."""
    with patch.dict(os.environ):

        def settings(env_file: str | None = None, **environment: str) -> Config:
            for name in (*NAMES, *(f"{name}_FILE" for name in SECRETS)):
                os.environ.pop(name, None)
            os.environ.update(environment)
            if env_file is None:
                return load(None)
            path = tmp_path / ".env"
            path.write_text(env_file)
            return load(str(path))

        yield settings


def test_the_defaults_serve_this_machine_alone_from_an_embedded_database(settings: Settings) -> None:
    config = settings()
    assert (config.database_url, config.host, config.port, config.debug) == (None, "127.0.0.1", 8000, False)
    assert config.cors_origins == ()
    assert config.raw_retention is config.minute_retention is config.hour_retention is config.day_retention is None


def test_an_env_file_that_is_no_text_is_refused_with_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_bytes("PREDLOG_ADMIN_KEY=ключ".encode("cp1251"))
    with pytest.raises(ConfigurationError, match="cannot be read: it is not UTF-8 text") as error:
        load(str(path))
    assert "PREDLOG" not in str(error.value).replace(str(path), "")


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("HOST", "0.0.0.0", "0.0.0.0"), ("PORT", "9000", 9000), ("WORKERS", "4", 4), ("THREADS", "1", 1),
        ("SHUTDOWN_DELAY_S", "0.5", 0.5), ("SHUTDOWN_DELAY_S", "0", 0), ("DEBUG", "true", True), ("DEBUG", "1", True),
        ("DEBUG", "false", False), ("DEBUG", "off", False), ("EMBEDDED_DATA_DIR", "/data", Path("/data")),
        ("CORS_ORIGINS", "*", ("*",)), ("CORS_ORIGINS", "", ()),
        ("CORS_ORIGINS", "https://a.org,http://localhost:3000", ("https://a.org", "http://localhost:3000")),
        ("MAX_BODY_BYTES", "1024", 1024), ("MAX_CONCURRENT_BATCHES", "5", 5),
        ("MAX_CONCURRENT_EXPORTS", "3", 3), ("EXPORT_TIMEOUT_S", "60", 60.0),
        ("STATEMENT_TIMEOUT_MS", "100", 100),
        ("LOCK_TIMEOUT_MS", "100", 100), ("POOL_SIZE", "1", 1), ("POOL_TIMEOUT_S", "0.1", 0.1),
        ("RAW_RETENTION", "90 days", timedelta(days=90)), ("RAW_RETENTION", "36 hours", timedelta(hours=36)),
        ("RAW_RETENTION", "1d", timedelta(days=1)), ("RAW_RETENTION", "", None),
        ("COLUMNSTORE_AFTER", "12h", timedelta(hours=12)), ("AUTH", "none", "none"), ("AUTH", "keys", "keys"),
        ("CONNECTIONS", "16", 16), ("REQUEST_TIMEOUT_S", "2.5", 2.5), ("CONNECTIONS_PER_ADDRESS", "8", 8),
        ("ANSWER_MEMORY_BYTES", "8388608", 8_388_608), ("LIST_TIMEOUT_MS", "100", 100),
        ("RATE_LIMIT", "0", 0), ("RATE_LIMIT", "0.5", 0.5), ("RATE_BURST", "1", 1),
        ("MAX_NEW_MODELS_PER_DAY", "0", 0),
        ("CORS_ORIGINS", "https://*.a.org:8443 , http://[::1]:3000", ("https://*.a.org:8443", "http://[::1]:3000")),
        ("ALLOWED_HOSTS", "", ()), ("ALLOWED_HOSTS", "*", ("*",)),
        ("ALLOWED_HOSTS", "a.org, *.a.org,192.0.2.1,[::1]", ("a.org", "*.a.org", "192.0.2.1", "[::1]")),
        ("AUTH_FAILURES_PER_MINUTE", "0", 0), ("AUTH_FAILURES_PER_MINUTE", "600", 600),
    ],
)  # fmt: skip
def test_a_setting_is_taken_from_the_environment(settings: Settings, name: str, text: str, value: Any) -> None:
    assert getattr(settings(**{name: text}), name.lower()) == value


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("HOST", ""),
        *(("PORT", text) for text in ("", "abc", "0", "65536", "-1", "80.5", "8000/tcp")),
        *(("WORKERS", text) for text in ("0", "65", "two")),
        *(("THREADS", text) for text in ("0", "65", "")),
        *(("SHUTDOWN_DELAY_S", text) for text in ("-1", "61", "soon", "nan", "inf")),
        *(("DEBUG", text) for text in ("maybe", "2", "")),
        *(("CORS_ORIGINS", text) for text in ("example.org", "https://", "https://a.org/path", "https://a.org,b.org", "ftp://a.org")),
        *(("CORS_ORIGINS", text) for text in (
            "https://*", "https://*.org", "https://a.*.org", "https://x*.a.org", "https://*.*.org", "*,https://a.org",
            "https://A.org", "https://u:p@a.org", "https://a.org/", "https://a.org?q", "https://a.org#f", "https://a.org.",
            "https://a..org", "https://a.org:443", "http://a.org:80", "https://a.org:0", "https://a.org:08443",
            "https://a.org:65536", "https://a.org:x", "https://.*", "https://^a.org$", "https://(a|b).org",
            "https://a.org\\", "https://[a-z].org", "https://[0:0::1]", "https://[::1", "https://999.0.2.1",
            "https://*.2.1", "https://пример.рф", "null", "https://a.org,", "https://a.org https://b.org",
            "https://-a.org", "https://" + "a" * 64 + ".org")),
        *(("ALLOWED_HOSTS", text) for text in (
            "a.org:8000", "https://a.org", "A.org", "*.org", "*,a.org", "a.org/", "a.*", "::1", "[::1]:80", "a b", ",",
            "a.org,", "192.0.2.256", "*.0.2.1", ".a.org", "a.org.")),
        *(("AUTH_FAILURES_PER_MINUTE", text) for text in ("-1", "1.5", "nan", "")),
        *(("AUTH", text) for text in ("", "None", "off")),
        *(("CONNECTIONS", text) for text in ("0", "15", "many", "")),
        *(("CONNECTIONS_PER_ADDRESS", text) for text in ("-1", "16385", "many", "")),
        *(("ANSWER_MEMORY_BYTES", text) for text in ("0", "1048576", "64MB", "")),
        *(("LIST_TIMEOUT_MS", text) for text in ("0", "5s", "-1", "", "2147483648")),
        *(("REQUEST_TIMEOUT_S", text) for text in ("0", "0.5", "3601", "nan", "inf", "")),
        *(("RATE_LIMIT", text) for text in ("-1", "nan", "inf", "100/s", "")),
        *(("RATE_BURST", text) for text in ("0", "-1", "1.5", "")),
        *(("MAX_NEW_MODELS_PER_DAY", text) for text in ("-1", "1.5", "many", "")),
        *(("MAX_BODY_BYTES", text) for text in ("0", "1023", "16MB")),
        *(("MAX_CONCURRENT_BATCHES", text) for text in ("0", "x")),
        *(("STATEMENT_TIMEOUT_MS", text) for text in ("0", "30s", "-1", "2147483648")),
        *(("LOCK_TIMEOUT_MS", text) for text in ("0", "x", "2147483648")),
        *(("MAX_REPLICA_LAG_S", text) for text in ("0", "0.5", "nan", "inf", "10s")),
        *(("POOL_SIZE", text) for text in ("0", "101", "x")),
        *(("POOL_TIMEOUT_S", text) for text in ("0", "nan", "inf", "x")),
        *((name, text) for name in ("RAW_RETENTION", "COLUMNSTORE_AFTER")
          for text in ("ten days", "10", "0 days", "-1 days", "1.5 days", "1 week", "1 day 2 hours",
                       "100001 days", "9" * 5000 + " days")),
        ("COLUMNSTORE_AFTER", ""),
        *(("DATABASE_URL", text) for text in (
            "x", "localhost:5432/db", "mysql://h/db", "sqlite:///file", "http://h", "postgresql://h:port/db")),
    ],
    ids=lambda text: text[:30],
)  # fmt: skip
def test_a_bad_value_stops_the_start_with_a_sentence_that_names_it(settings: Settings, name: str, text: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        settings(**{name: text})


@pytest.mark.parametrize(("name", "text"), [("DB_PORT", "0"), ("DB_PORT", "port"), ("DB_PORT", "")])
def test_a_bad_part_of_the_database_is_named_too(settings: Settings, name: str, text: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        settings(DB_HOST="h", DB_PASSWORD=PASSWORD, **{name: text})


@pytest.mark.parametrize(
    ("url", "read_as"),
    [
        ("postgresql://h/db", "postgresql+psycopg2://h/db"),
        ("postgres://u:p@h:1/db", "postgresql+psycopg2://u:p@h:1/db"),
        ("postgresql+psycopg2://u:p@h/db", "postgresql+psycopg2://u:p@h/db"),
        # What the seed's .env says.
        ("postgresql+asyncpg://postgres:password@localhost:5432/ml_logging_db",
         "postgresql+psycopg2://postgres:password@localhost:5432/ml_logging_db"),
        ("postgresql://u:p%40s%2Fs%25@h/db?sslmode=require", "postgresql+psycopg2://u:p%40s%2Fs%25@h/db?sslmode=require"),
        ("postgresql://u@[::1]:5432/db", "postgresql+psycopg2://u@[::1]:5432/db"),
    ],
)  # fmt: skip
def test_a_url_of_any_postgresql_driver_is_read_as_psycopg2s(settings: Settings, url: str, read_as: str) -> None:
    assert settings(DATABASE_URL=url).database_url == read_as


def test_the_database_may_be_given_in_parts(settings: Settings) -> None:
    url = make_url(
        settings(DB_HOST="db", DB_PORT="1234", DB_NAME="n", DB_USER="u", DB_PASSWORD="p@:/ %é").database_url or ""
    )
    assert (url.drivername, url.host, url.port, url.database) == ("postgresql+psycopg2", "db", 1234, "n")
    assert (url.username, url.password) == ("u", "p@:/ %é")


def test_parts_that_are_left_out_are_the_seeds(settings: Settings) -> None:
    url = make_url(settings(DB_HOST="db").database_url or "")
    assert (url.port, url.database, url.username, url.password) == (5432, "ml_logging_db", "postgres", None)


def test_the_url_goes_before_the_parts_and_an_empty_one_is_none(settings: Settings) -> None:
    both = {"DB_HOST": "elsewhere", "DATABASE_URL": "postgresql://h/db"}
    assert settings(**both).database_url == "postgresql+psycopg2://h/db"
    assert "elsewhere" in (settings(**{**both, "DATABASE_URL": ""}).database_url or "")
    assert settings(DATABASE_URL="", DB_HOST="").database_url is None


@pytest.mark.parametrize("name", ["DATABASE_READ_URL", "DATABASE_DIRECT_URL"])
def test_another_way_to_the_database_goes_with_the_first_one(settings: Settings, name: str) -> None:
    read_as = getattr(settings(**{name: "postgres://replica/db", "DB_HOST": "h"}), name.lower())
    assert read_as == "postgresql+psycopg2://replica/db"
    assert getattr(settings(**{name: "", "DB_HOST": "h"}), name.lower()) is None
    with pytest.raises(ConfigurationError, match=f"{name} needs DATABASE_URL"):
        settings(**{name: "postgres://replica/db"})
    with pytest.raises(ConfigurationError, match=f"{name} is not a URL"):
        settings(**{name: "replica", "DB_HOST": "h"})


def test_a_password_that_breaks_the_address_is_told_how_to_be_written_and_not_repeated(settings: Settings) -> None:
    with pytest.raises(ConfigurationError, match="in the password written as %40") as refused:
        settings(DATABASE_URL="postgresql://predlog:secr@t@h/db")
    assert "secr" not in str(refused.value)


def test_what_the_seeds_env_file_says_is_understood(settings: Settings) -> None:
    config = settings(
        """
        DATABASE_URL=postgresql+asyncpg://postgres:password@localhost:5432/ml_logging_db
        DB_HOST=localhost
        DB_PORT=5432
        DB_NAME=ml_logging_db
        DB_USER=postgres
        DB_PASSWORD=password
        DEBUG=false
        """.replace("        ", "")
    )
    assert config.database_url == "postgresql+psycopg2://postgres:password@localhost:5432/ml_logging_db"


@pytest.mark.parametrize(
    "environment",
    [
        {"DATABASE_URL": f"mysql://u:{PASSWORD}@h/db"},
        {"DATABASE_URL": f"postgresql://u:{PASSWORD}@h:port/db"},
        {"DATABASE_URL": f"u:{PASSWORD}@h/db"},
        {"DATABASE_URL": f"://u:{PASSWORD}@h/db"},
        {"DATABASE_URL": f"{PASSWORD}://h/db"},
        {"DB_HOST": "h", "DB_PASSWORD": PASSWORD, "DB_PORT": "x"},
        {"DATABASE_URL": f"postgresql://u:{PASSWORD}@h/db", "PORT": "x"},
        {"DATABASE_READ_URL": f"mysql://u:{PASSWORD}@h/db"},
        {"DATABASE_READ_URL": f"postgresql://u:{PASSWORD}@h/db"},
        {"DATABASE_DIRECT_URL": f"postgresql://u:{PASSWORD}@h:port/db"},
    ],
)
def test_a_password_is_never_in_the_sentence(settings: Settings, environment: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        settings(**environment)
    assert PASSWORD not in str(refusal.value)
    shown = "".join(traceback.format_exception(refusal.value))
    assert PASSWORD not in re.sub(r"(?m)^ .*", "", shown), "nor in what led to it"


def test_a_password_is_not_in_what_the_settings_look_like(settings: Settings) -> None:
    ways = ("DATABASE_URL", "DATABASE_READ_URL", "DATABASE_DIRECT_URL")
    config = settings(**dict.fromkeys(ways, f"postgresql://u:{PASSWORD}@h/db"))
    assert PASSWORD not in repr(config) + str(config)


def test_the_environment_goes_before_the_env_file(settings: Settings) -> None:
    config = settings("PORT=1111\nHOST=0.0.0.0\n", PORT="2222")
    assert (config.port, config.host) == (2222, "0.0.0.0")


def test_an_env_file_may_have_comments_quotes_and_exports(settings: Settings) -> None:
    config = settings("# a comment\nexport PORT=1111\nRAW_RETENTION='30 days'  # another\n\nDEBUG=\"yes\"\n")
    assert (config.port, config.raw_retention, config.debug) == (1111, timedelta(days=30), True)


def test_a_bad_value_in_the_env_file_is_named_as_well(settings: Settings) -> None:
    with pytest.raises(ConfigurationError, match="WORKERS"):
        settings("WORKERS=many")


def test_without_an_env_file_the_environment_is_enough(settings: Settings, tmp_path: Path) -> None:
    settings()
    assert load(str(tmp_path / "missing")).port == 8000


@pytest.mark.parametrize(
    ("kept", "named"),
    [
        ({"RAW": "30 days", "MINUTE": "29 days"}, "MINUTE_RETENTION"),
        ({"MINUTE": "30 days"}, "MINUTE_RETENTION"),
        ({"RAW": "1 day", "MINUTE": "2 days", "HOUR": "47 hours"}, "HOUR_RETENTION"),
        ({"RAW": "1 day", "MINUTE": "1 day", "HOUR": "1 day", "DAY": "23 hours"}, "DAY_RETENTION"),
        ({"RAW": "1 day", "MINUTE": "1 day", "DAY": "9 days"}, "DAY_RETENTION"),
    ],
)
def test_a_coarser_level_must_not_be_kept_shorter_than_a_finer_one(
    settings: Settings, kept: dict[str, str], named: str
) -> None:
    with pytest.raises(ConfigurationError, match=named):
        settings(**{f"{level}_RETENTION": length for level, length in kept.items()})


@pytest.mark.parametrize(
    "kept",
    [
        {"RAW": "30 days"},
        {"RAW": "1 day", "MINUTE": "24 hours"},
        {"RAW": "1d", "MINUTE": "2d", "HOUR": "3d", "DAY": "4d"},
    ],
)
def test_any_other_retention_will_do(settings: Settings, kept: dict[str, str]) -> None:
    assert settings(**{f"{level}_RETENTION": length for level, length in kept.items()}).raw_retention


def test_a_list_may_not_take_longer_than_its_statement(settings: Settings) -> None:
    for given in (
        {"LIST_TIMEOUT_MS": "30001"},
        {"LIST_TIMEOUT_MS": "200", "STATEMENT_TIMEOUT_MS": "199"},
        {"LIST_TIMEOUT_MS": "60000", "STATEMENT_TIMEOUT_MS": "4000"},
    ):
        with pytest.raises(ConfigurationError, match=r"^LIST_TIMEOUT_MS must not be .* than STATEMENT_TIMEOUT_MS"):
            settings(**given)
    assert settings(LIST_TIMEOUT_MS="60000", STATEMENT_TIMEOUT_MS="60000").list_timeout_ms == 60_000


def test_a_short_timeout_of_statements_holds_for_lists_by_default(settings: Settings) -> None:
    assert settings(STATEMENT_TIMEOUT_MS="1000").list_timeout_ms == 1000
    assert settings(STATEMENT_TIMEOUT_MS="1000", LIST_TIMEOUT_MS="5000").list_timeout_ms == 1000, "of .env.example"
    assert settings(STATEMENT_TIMEOUT_MS="6000").list_timeout_ms == 5000


def test_every_origin_and_no_key_is_refused(settings: Settings) -> None:
    with pytest.raises(ConfigurationError, match=r"CORS_ORIGINS=\* with AUTH=none would let every web page"):
        settings(CORS_ORIGINS="*", AUTH="none")
    assert settings(CORS_ORIGINS="https://a.org", AUTH="none").auth == "none"


def by_file(settings: Settings, tmp_path: Path, name: str, content: bytes, **others: str) -> Config:
    """Load with NAME_FILE naming a file that holds this."""
    path = tmp_path / "secret"
    path.write_bytes(content)
    return settings(**{f"{name}_FILE": str(path), **others})


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\n\n"])
def test_a_secret_may_be_given_as_a_file(settings: Settings, tmp_path: Path, end: str) -> None:
    url = f"postgresql://u:{PASSWORD}@h/db"
    for name in ("DATABASE_URL", "DATABASE_READ_URL", "DATABASE_DIRECT_URL"):
        others = {} if name == "DATABASE_URL" else {"DB_HOST": "h"}
        config = by_file(settings, tmp_path, name, (url + end).encode(), **others)
        assert getattr(config, name.lower()) == url.replace("://", "+psycopg2://")
    config = by_file(settings, tmp_path, "DB_PASSWORD", f" é{PASSWORD} {end}".encode(), DB_HOST="h")
    assert make_url(config.database_url or "").password == f" é{PASSWORD} ", "blanks may be part of a password"


def test_the_env_file_may_name_a_secrets_file_too(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(PASSWORD)
    config = settings(f"DB_HOST=h\nDB_PASSWORD_FILE={tmp_path / 'secret'}\n")
    assert make_url(config.database_url or "").password == PASSWORD


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"two\nlines", b"\xff", b"nul\0", b"x" * 70_000], ids=lambda content: repr(content[:10])
)
def test_a_file_without_one_line_of_text_is_refused(settings: Settings, tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ConfigurationError, match="DB_PASSWORD_FILE"):
        by_file(settings, tmp_path, "DB_PASSWORD", content, DB_HOST="h")


@pytest.mark.parametrize("path", ["missing", ".", "x" * 5000])
def test_a_file_that_cannot_be_read_is_named(settings: Settings, path: str) -> None:
    with pytest.raises(ConfigurationError, match=r"DB_PASSWORD_FILE names .* cannot be read: "):
        settings(DB_HOST="h", DB_PASSWORD_FILE=path)


@pytest.mark.parametrize("name", ["DATABASE_URL", "DB_PASSWORD"])
def test_a_secret_and_its_file_together_are_refused(settings: Settings, tmp_path: Path, name: str) -> None:
    both = {"DB_HOST": "h", name: f"postgresql://u:{PASSWORD}@h/db"}
    with pytest.raises(ConfigurationError, match=f"{name} and {name}_FILE are both set") as refusal:
        by_file(settings, tmp_path, name, PASSWORD.encode(), **both)
    assert PASSWORD not in str(refusal.value)


def test_an_empty_one_of_the_two_is_not_set(settings: Settings, tmp_path: Path) -> None:
    config = by_file(settings, tmp_path, "DB_PASSWORD", PASSWORD.encode(), DB_HOST="h", DB_PASSWORD="")
    assert make_url(config.database_url or "").password == PASSWORD
    assert make_url(settings(DB_HOST="h", DB_PASSWORD="p", DB_PASSWORD_FILE="").database_url or "").password == "p"


def test_the_example_file_lists_every_setting_with_its_default(settings: Settings) -> None:
    text = (REPOSITORY / ".env.example").read_text()
    assert set(re.findall(r"^#?([A-Z_]+)=", text, re.MULTILINE)) == set(NAMES)
    assert settings(text) == settings()


def test_the_example_file_tells_every_secret_of_compose_and_every_secret_file() -> None:
    text = (REPOSITORY / ".env.example").read_text()
    compose = (REPOSITORY / "docker-compose.yml").read_text()
    assert set(re.findall(r"^#   ([A-Z_]+) ", text, re.MULTILINE)) == set(re.findall(r"\$\{(\w+):\?", compose))
    assert set(re.findall(r"\b([A-Z_]+)_FILE\b", text)) - {"NAME", "ALERTS"} == set(SECRETS)


@pytest.mark.parametrize(("file", "made"), [(".env.example", env_example), ("docs/settings.md", markdown)])
def test_the_pages_of_settings_are_what_make_settings_makes(file: str, made: Callable[[], str]) -> None:
    assert (REPOSITORY / file).read_text() == made(), f"run `make settings`: {file} is not up to date"


def test_every_page_tells_each_setting_once() -> None:
    for page, lines in ((markdown(), r"^\| `([A-Z_]+)` "), (help_text(), r"^  ([A-Z_]+)(?= \(|$)")):
        told = re.findall(lines, page, re.MULTILINE)
        assert sorted(told) == sorted({*NAMES, *(COMMAND_SECRETS if page.startswith("#") else ())})


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_a_default_that_is_written_down_means_the_default(setting: Setting) -> None:
    with patch.dict(os.environ, {setting.name: setting.default_text}):
        if not setting.default_text:
            del os.environ[setting.name]
        assert setting.kind.read(Env(), setting.name, setting.default) == setting.default


def test_the_help_of_the_server_tells_the_settings() -> None:
    help_of = subprocess.run([sys.executable, "-m", "app", "--help"], cwd=REPOSITORY, capture_output=True, text=True)
    assert (help_of.returncode, help_of.stderr) == (0, "")
    assert help_text() in help_of.stdout


@pytest.mark.parametrize(
    "command", [["-m", "app"], ["-m", "flask", "--app", "wsgi", "db", "current"]], ids=["serve", "flask"]
)
def test_a_command_with_a_bad_setting_ends_with_the_sentence_alone(command: list[str], tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in NAMES}
    environment |= {
        "DATABASE_URL": f"postgresql://u:{PASSWORD}@127.0.0.1:1/db",
        "PORT": "abc",
        "PYTHONPATH": str(REPOSITORY),
    }
    run = subprocess.run(
        [sys.executable, *command], env=environment, cwd=REPOSITORY, capture_output=True, text=True, timeout=60
    )
    assert run.returncode not in (0, None)
    assert "PORT" in run.stderr
    assert PASSWORD not in run.stdout + run.stderr
    assert "Traceback" not in run.stderr
