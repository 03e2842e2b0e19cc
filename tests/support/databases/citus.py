"""Citus: the nodes that TEST_CITUS_URL leads to, or a coordinator and two workers of our own.

These are of this machine's PostgreSQL, or containers of Citus's own image if a Docker engine answers.
"""

from __future__ import annotations

import functools
import os
import secrets
import shutil
import signal
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import URL, create_engine, make_url

from app.infrastructure.embedded.account import choose_account
from support.databases import container, native

if TYPE_CHECKING:
    from support.replication import PostgresServer

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "120",
    "timezone": "UTC",
    "fsync": "off",  # the data is thrown away anyway
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_preload_libraries": "citus",
    "wal_level": "logical",
    "max_prepared_transactions": "120",
    "max_worker_processes": "24",
    "citus.enable_statistics_collection": "off",
    "citus.shard_count": "4",
    "citus.node_connection_timeout": "3s",
}
WORKERS = 2
IMAGE = "citusdata/citus:13.2"
PRIMARIES = "SELECT nodename, nodeport FROM pg_dist_node WHERE noderole = 'primary' ORDER BY groupid"


@dataclass(frozen=True)
class Node:
    """A server: where we find it, and where the other nodes find it."""

    url: URL
    name: str
    port: int
    server: PostgresServer | None = None
    """If we have started it."""


class Cluster:
    """The nodes, the coordinator first."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.nodes = nodes

    def make_database(self, name: str, options: str = "") -> str:
        """Make a database on each node, tell the coordinator's of the others, and return its URL."""
        for node in self.nodes:
            execute(node.url, f"CREATE DATABASE {name} TEMPLATE template0 {options}")
            execute(node.url.set(database=name), "CREATE EXTENSION citus")
        coordinator, *workers = self.nodes
        url = coordinator.url.set(database=name)
        execute(url, f"SELECT citus_set_coordinator_host('{coordinator.name}', {coordinator.port})")
        for worker in workers:
            execute(url, f"SELECT citus_add_node('{worker.name}', {worker.port})")
        return url.render_as_string(hide_password=False)

    def drop_database(self, name: str) -> None:
        for node in self.nodes:
            execute(node.url, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@functools.cache
def why_not() -> str | None:
    """Three servers for each worker of the suite are many: Citus is asked for."""
    if os.environ.get("TEST_CITUS_URL"):
        return None
    if not os.environ.get("TEST_CITUS"):
        return "citus: neither TEST_CITUS nor TEST_CITUS_URL is set"
    if programs() or not (reason := container.why_not()):
        return None
    return f"citus: TEST_CITUS_URL is not set, no local PostgreSQL has Citus, and for its image {reason}"


@functools.cache
def programs() -> Path | None:
    """The folder of programs of the newest server here that has Citus."""
    return native.newest(
        lambda folder: (folder / "pg_config").exists() and (native.extensions(folder) / "citus.control").exists()
    )


def cluster_of(url: str) -> Cluster:
    """Return the cluster whose coordinator has this URL; its nodes take the same role and password."""
    coordinator = make_url(url).set(drivername="postgresql+psycopg2")
    engine = create_engine(coordinator)
    try:
        with engine.connect() as connection:
            rows = connection.exec_driver_sql(PRIMARIES).all()
    finally:
        engine.dispose()
    return Cluster([Node(coordinator if not place else coordinator.set(host=name, port=port), name, port)
                    for place, (name, port) in enumerate(rows)])  # fmt: skip


@contextmanager
def start() -> Iterator[str]:
    """The URL of a fresh database on the coordinator; its role is a superuser."""
    if url := os.environ.get("TEST_CITUS_URL"):
        with database(cluster_of(url)) as own:
            yield own
        return
    with cluster() if programs() else containers() as nodes, database(nodes) as own:
        yield own


@contextmanager
def database(nodes: Cluster, options: str = "") -> Iterator[str]:
    """A database that goes away afterwards."""
    name = f"predlog_test_{secrets.token_hex(6)}"
    try:
        yield nodes.make_database(name, options)
    finally:
        nodes.drop_database(name)


@contextmanager
def cluster(workers: int = WORKERS) -> Iterator[Cluster]:
    """Start a coordinator and so many workers of our own.

    Nodes find each other by their sockets, where every role may log in without a password.
    """
    from support.replication import PostgresServer

    folder = Path(tempfile.mkdtemp(prefix="predlog-citus-"))
    account = choose_account(folder / "none")
    if account.borrowed:
        os.chown(folder, account.uid, account.gid)
    bin_folder = programs()
    assert bin_folder is not None, why_not()
    settings = SETTINGS | {"unix_socket_directories": str(folder), "citus.local_hostname": str(folder)}
    password = secrets.token_hex(16)
    servers = [PostgresServer(bin_folder, account, folder / f"node{n}", password, settings) for n in range(1 + workers)]
    try:
        for server in servers:
            server.initialise("--auth-local=trust")
            server.start(wait=False)
        for server in servers:
            server.wait()
        yield Cluster([Node(make_url(server.url), str(folder), server.port, server) for server in servers])
    finally:
        for server in servers:
            server.stop(signal.SIGQUIT)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def containers(workers: int = WORKERS) -> Iterator[Cluster]:
    """Start a coordinator and so many workers in containers, which find each other by name in their own network."""
    from testcontainers.community.postgres import PostgresContainer
    from testcontainers.core.network import Network

    settings = SETTINGS | {"listen_addresses": "*"}
    command = ["postgres", *(part for name, value in settings.items() for part in ("-c", f"{name}={value}"))]
    nodes = []
    with ExitStack() as stack:
        network = stack.enter_context(Network())
        for name in ("coordinator", *(f"worker-{number}" for number in range(1, 1 + workers))):
            server = PostgresContainer(IMAGE, driver="psycopg2").with_command(command)
            server = server.with_env("POSTGRES_HOST_AUTH_METHOD", "trust")
            stack.enter_context(server.with_network(network).with_network_aliases(name))
            nodes.append(Node(make_url(server.get_connection_url()), name, server.port))
        yield Cluster(nodes)


def execute(url: URL, statement: str) -> None:
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql(statement)
    finally:
        engine.dispose()
