"""Every test of SQL runs on every engine that can be had here; each sees only the predictions that it logs itself."""

from __future__ import annotations

import dataclasses
import os
import secrets
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import HealthCheck, settings
from sqlalchemy import Connection, Engine, create_engine, make_url

sys.path.insert(0, str(Path(__file__).parent))

import config as configuration
from app.infrastructure.embedded import EmbeddedPostgres
from app.infrastructure.roles import service_role
from support.databases import Provider, citus, not_on_citus, reasons, timescale_provider
from support.replication import plain_server
from support.service import running

# Properties are no stopwatch: on a busy machine a single example may take long.
settings.register_profile(
    "patient",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
    max_examples=int(os.environ.get("EXAMPLES", "100")),  # fewer in `make test-quick`
)
settings.load_profile("patient")

CITUS = Provider("citus", citus.why_not, citus.start, background_jobs=False)
UNGUARDED = {"auth": configuration.NO_AUTH, "auth_failures_per_minute": 0}
ENGINES = ["plain", "timescale", *(["citus"] if citus.why_not() is None else [])]
PENDING = """
SELECT count(*) FROM prediction_invalidation, prediction_stats_state WHERE invalid_to <= watermark
"""


@dataclasses.dataclass(frozen=True)
class Server:
    """A migrated database and what it can do. The URL is the owner's."""

    engine: str
    url: str
    service_url: str
    """Of the role that may only what the service needs; where there is one session for all, the owner's."""
    provider: Provider | None

    @property
    def concurrent(self) -> bool:
        """Whether two connections can each have a transaction open."""
        return self.provider is None or self.provider.concurrent

    @property
    def has_jobs(self) -> bool:
        """Whether TimescaleDB runs its jobs by itself."""
        return self.provider is not None and self.provider.background_jobs


def pytest_report_header() -> list[str]:
    provider = timescale_provider()
    chosen = f"timescale ({provider.name})" if provider else "no timescale"
    distributed = "no citus" if citus.why_not() else "citus"
    engines = f"storage engines: plain (embedded), {chosen}, {distributed}"
    return [engines, *(f"  not taken: {reason}" for reason in [*reasons(), *filter(None, [citus.why_not()])])]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        callspec = getattr(item, "callspec", None)
        if callspec and callspec.params.get("server") == "citus" and (reason := not_on_citus.why_not(item.nodeid)):
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def servers() -> Iterator[Callable[[str], Server]]:
    """Start the server of an engine the first time that a test asks for it."""
    started: dict[str, Server] = {}
    with ExitStack() as stack:

        def server(engine: str) -> Server:
            if engine not in started:
                started[engine] = _start(engine, stack)
            return started[engine]

        yield server


def _start(engine: str, stack: ExitStack) -> Server:
    provider = timescale_provider() if engine == "timescale" else CITUS if engine == "citus" else None
    if provider is CITUS and (reason := citus.why_not()):
        pytest.skip(reason)
    service_url = ""
    if provider:
        url = service_url = stack.enter_context(provider.start())
    elif engine == "plain":
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="predlog-tests-"))
        os.chmod(folder, 0o755)  # if root starts the server, it runs as another user
        urls = stack.enter_context(EmbeddedPostgres(Path(folder, "data"))).urls
        url, service_url = urls.owner, urls.service
    else:
        pytest.skip(f"no TimescaleDB here: {'; '.join(reasons())}")
    migrate(url)
    if provider and provider.concurrent:
        service_url = _make_service_role(url, stack)
    return Server(engine, url, service_url, provider)


def _make_service_role(url: str, stack: ExitStack) -> str:
    """As `flask roles create-service` does; returns the role's URL."""
    password = secrets.token_hex(16)
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    service_role.create(engine, password)

    def forget() -> None:
        with engine.connect() as connection:
            connection.exec_driver_sql(f"DROP OWNED BY {service_role.ROLE}")
            connection.exec_driver_sql(f"DROP ROLE {service_role.ROLE}")
        engine.dispose()

    stack.callback(forget)
    return make_url(url).set(username=service_role.ROLE, password=password).render_as_string(hide_password=False)


def make_config(url: str, **settings: Any) -> configuration.Config:
    """Return the default settings with these changes, without the environment; requests need no key.

    Requests with bad keys are not limited, because the tests send many from one address.
    """
    with pytest.MonkeyPatch.context() as environment:
        for name in configuration.NAMES:
            environment.delenv(name, raising=False)
        defaults = configuration.load(env_file=None)
    return dataclasses.replace(defaults, database_url=url, **{**UNGUARDED, **settings})


def make_app(url: str, **settings: Any) -> Flask:
    """An application on this database."""
    from app.factory import create_app  # the tests of the domain do not need it

    return create_app(make_config(url, **settings))


def migrate(url: str) -> None:
    """Bring the database to the newest schema."""
    from flask_migrate import upgrade

    with make_app(url).app_context():
        upgrade()


@pytest.fixture(scope="session", params=ENGINES)
def server(request: pytest.FixtureRequest, servers: Callable[[str], Server]) -> Server:
    """A migrated database: a test that asks for it runs on both engines."""
    return servers(request.param)


@pytest.fixture(scope="session")
def superuser_servers(servers: Callable[[str], Server]) -> Iterator[Callable[[str], Server]]:
    """The same engines with a superuser's `url`, because the embedded server's owner is no superuser."""
    with ExitStack() as stack:
        started: list[Server] = []

        def server(engine: str) -> Server:
            if engine != "plain":
                return servers(engine)
            if not started:
                url = stack.enter_context(plain_server()).url
                migrate(url)
                started.append(Server("plain", url, url, None))
            return started[0]

        yield server


@pytest.fixture
def superuser_server(server: Server, superuser_servers: Callable[[str], Server]) -> Server:
    """A migrated database of each engine whose settings a test may change."""
    return superuser_servers(server.engine)


@pytest.fixture(scope="session")
def app(server: Server) -> Flask:
    """The application on both engines, as the service's role. One connection if the engine has only one session."""
    return make_app(server.service_url, database_direct_url=server.url, pool_size=8 if server.concurrent else 1)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """Calls the application as HTTP clients do."""
    return app.test_client()


@pytest.fixture(scope="session")
def database(server: Server) -> Iterator[Engine]:
    """The database itself, in autocommit."""
    engine = create_engine(server.url, isolation_level="AUTOCOMMIT", pool_size=1 if not server.concurrent else 5)
    yield engine
    engine.dispose()


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder that all users may enter, because an embedded server that root starts runs as another user."""
    with tempfile.TemporaryDirectory(prefix="predlog-test-") as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


@pytest.fixture
def fresh_service(public_folder: Path) -> Iterator[int]:
    """The port of a service of its own, on an empty database."""
    with running(public_folder, EMBEDDED_DATA_DIR=str(public_folder / "data")) as service:
        yield service.port


@pytest.fixture
def model() -> str:
    """The name of a model that nobody else logs."""
    return f"model-{uuid4().hex}"


@pytest.fixture
def log(client: FlaskClient, model: str) -> Callable[..., dict[str, Any]]:
    """Log a prediction of `model` through the API and return the answer."""

    def log(**fields: Any) -> dict[str, Any]:
        record = {"model_name": model, "duration_ms": 10, "was_successful": True, **fields}
        response = client.post("/api/v1/predict-log", json=record)
        assert response.status_code == 200, response.text
        return dict(response.get_json())

    return log


def materialize(connection: Connection) -> None:
    """Have the job done: it leaves the work to another one that is at it, and stops after a while."""
    until = time.monotonic() + 120
    while time.monotonic() < until:
        connection.exec_driver_sql("CALL prediction_stats_job(0, '{}')")
        if not connection.exec_driver_sql(PENDING).scalar():
            return
        time.sleep(0.1)
    raise AssertionError("there is still something to repair")


@pytest.fixture
def refresh(database: Engine, server: Server) -> Callable[[], None]:
    """Materialise and repair all there is, as the job does; nothing to do on the plain engine."""

    def refresh() -> None:
        if server.engine == "timescale":
            with database.connect() as connection:
                materialize(connection)

    return refresh
