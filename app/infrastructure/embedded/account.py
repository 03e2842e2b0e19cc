"""The operating-system account that PostgreSQL runs as.

PostgreSQL refuses to run as root. A root caller hands it to an account that is there for it: one made for Predlog, or
one made for PostgreSQL; if there is neither, the former is made. Never to `nobody`: that is everybody's who has none of
their own. A data directory stays with the account that owns it, whichever appears later, unless that is `nobody`.
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
# As packages do it: with the tools of most Linux systems, else with those of busybox.
MAKERS = (
    (("useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent", "--shell", "/bin/false",
      DEDICATED),),
    (("addgroup", "-S", DEDICATED),
     ("adduser", "-S", "-D", "-H", "-h", "/nonexistent", "-s", "/bin/false", "-G", DEDICATED, DEDICATED)),
)  # fmt: skip

# Nothing of the caller's: PGPORT, PGDATA or a strange LC_ALL would change what the server's programs do.
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
        """What makes `subprocess` start a program as this account, with none of root's groups."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []} if self.borrowed else {}

    def out_of_reach(self, *paths: Path) -> Path | None:
        """The first directory or program on the way to `paths` that this account may not enter or run."""
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
        """Run a program of PostgreSQL's to its end; it holds the lock as well, should the caller be killed."""
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
    """Whoever owns the cluster, else for root an account that is there for it, else the caller."""
    caller = os.geteuid()
    owner = cluster.lstat().st_uid if os.path.lexists(cluster) else None
    if owner is not None and caller not in (0, owner):
        raise EmbeddedPostgresError(f"{cluster} belongs to another user (uid {owner}): run Predlog as that user.")
    if owner == 0:
        raise EmbeddedPostgresError(f"{cluster} belongs to root, whom PostgreSQL refuses: give it to another user.")
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
    """Make a system account that nobody can log in to; None if this system has no tool that we know."""
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
    """Give a cluster that was left to `nobody` by an older version, and stands still, to this account."""
    shared = _shared_uid()
    if not account.borrowed or shared is None or not cluster.exists() or cluster.lstat().st_uid != shared:
        return
    for _, folders, files, descriptor in os.fwalk(cluster, follow_symlinks=False):
        for name in (".", *folders, *files):
            # A file of somebody else's that was linked into it stays theirs.
            if os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_uid == shared:
                os.chown(name, account.uid, account.gid, dir_fd=descriptor, follow_symlinks=False)
