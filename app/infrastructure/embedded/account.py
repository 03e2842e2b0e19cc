"""The operating-system account that PostgreSQL runs as.

PostgreSQL refuses to run as root. So a root caller runs it as Predlog's account, or else as PostgreSQL's; if there is
neither, Predlog's account is made. It is never `nobody`, because other services share that account. A data directory
stays with the account that owns it, even if another account appears later, unless its owner is `nobody`.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import EmbeddedPostgresError

DEDICATED = "predlog"
CANDIDATES = (DEDICATED, "postgres")
SHARED = "nobody"
# Packages do it the same way: with the tools of most Linux systems, else with those of busybox.
MAKERS = (
    (("useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent", "--shell", "/bin/false",
      DEDICATED),),
    (("addgroup", "-S", DEDICATED),
     ("adduser", "-S", "-D", "-H", "-h", "/nonexistent", "-s", "/bin/false", "-G", DEDICATED, DEDICATED)),
)  # fmt: skip

# No variables of the caller, because PGPORT, PGDATA or a strange LC_ALL would change the server's programs.
ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}

FIRST_OUT_OF_REACH = 'for step; do [ -x "$step" ] || { printf %s "$step"; exit 1; }; done'


@dataclass(frozen=True)
class Account:
    name: str
    uid: int
    gid: int
    borrowed: bool
    """Whether the caller is root and has to become this account."""

    @property
    def process_options(self) -> dict[str, Any]:
        """The arguments that make `subprocess` start a program as this account, with none of root's groups."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []} if self.borrowed else {}

    def out_of_reach(self, *paths: Path) -> Path | None:
        """Return the first directory or program on the way to `paths` that this account may not enter or run."""
        if not self.borrowed:
            return None
        steps = [step for path in paths for step in (*reversed(path.parents), path)]
        command: list[str | Path] = ["/bin/sh", "-c", FIRST_OUT_OF_REACH, "sh", *steps]
        try:
            found = subprocess.run(command, cwd="/", stdout=subprocess.PIPE, **self.process_options)
        except OSError as error:
            raise EmbeddedPostgresError(
                f"PostgreSQL refuses to run as root, and this process may not become the user {self.name} "
                f"({error.strerror}): run Predlog as an ordinary user, or set DATABASE_URL."
            ) from error
        return Path(os.fsdecode(found.stdout)) if found.returncode else None

    def run(self, command: Sequence[str | Path], lock: int, stdin: str = "") -> None:
        """Run a program of PostgreSQL to its end; it inherits the lock and keeps it if the caller is killed."""
        done = subprocess.run(
            command,
            input=stdin.encode(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd="/",
            env=ENVIRONMENT,
            umask=0o077,
            pass_fds=[lock],
            **self.process_options,
        )
        if done.returncode:
            reason = done.stderr.decode(errors="replace").strip() or f"exit status {done.returncode}"
            raise EmbeddedPostgresError(f"{Path(command[0]).name} failed: {reason}")


def choose_account(cluster: Path) -> Account:
    """Return the owner of the cluster; without a cluster a dedicated account if the caller is root, else the caller."""
    caller = os.geteuid()
    owner = cluster.lstat().st_uid if os.path.lexists(cluster) else None
    if owner is not None and caller not in (0, owner):
        raise EmbeddedPostgresError(f"{cluster} belongs to another user (uid {owner}): run Predlog as that user.")
    if owner == 0:
        raise EmbeddedPostgresError(
            f"{cluster} belongs to root, but PostgreSQL refuses to run as root: give it to another user."
        )
    if caller == 0 and (owner is None or owner == _shared_uid()):
        return _borrow_account()
    uid = caller if owner is None else owner
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        raise EmbeddedPostgresError(
            f"The user id {uid} has no entry in the user database (/etc/passwd), and PostgreSQL needs one: "
            "add it, run Predlog as a user that has one, or set DATABASE_URL."
        ) from None
    return Account(entry.pw_name, uid, entry.pw_gid, borrowed=caller == 0)


def _borrow_account() -> Account:
    found = next(filter(None, map(_existing, CANDIDATES)), None) or _made()
    if found is None:
        raise EmbeddedPostgresError(
            f"PostgreSQL refuses to run as root, and neither of the users {' and '.join(CANDIDATES)} exists: "
            f"create {DEDICATED} as a system account, run Predlog as an ordinary user, or set DATABASE_URL."
        )
    return found


def _existing(name: str) -> Account | None:
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None
    return Account(name, entry.pw_uid, entry.pw_gid, borrowed=True) if entry.pw_uid != 0 else None


def _made() -> Account | None:
    """Make a system account without a login; return None if this system has no known tool for it."""
    for commands in MAKERS:
        if all(shutil.which(command[0]) for command in commands):
            for command in commands:
                subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True)
            if account := _existing(DEDICATED):
                print(f"predlog: made the system account {DEDICATED} for PostgreSQL to run as", file=sys.stderr)
                return account
    return None


def _shared_uid() -> int | None:
    try:
        return pwd.getpwnam(SHARED).pw_uid
    except KeyError:
        return None


def hand_over(cluster: Path, account: Account) -> None:
    """Give a stopped cluster that an older version left to `nobody` to this account."""
    shared = _shared_uid()
    if not account.borrowed or shared is None or not cluster.exists() or cluster.lstat().st_uid != shared:
        return
    for _, folders, files, descriptor in os.fwalk(cluster, follow_symlinks=False):
        for name in (".", *folders, *files):
            # A linked file of another owner keeps its owner.
            if os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_uid == shared:
                os.chown(name, account.uid, account.gid, dir_fd=descriptor, follow_symlinks=False)
