"""Check that no other user could replace the files of the server."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from contextlib import suppress
from pathlib import Path

from .errors import EmbeddedPostgresError

ROOT = 0
ALL_USERS_AS_THEY_ARE = ["0", "0", "4294967295"]


def check(path: Path) -> None:
    """Check that only this user and root can change the directory and its parents. Raises EmbeddedPostgresError.

    A parent may be a sticky directory such as /tmp, because only the owner of a file can move it there.
    """
    for directory in (*reversed(path.parents), path):
        status = directory.stat()
        if status.st_uid not in _trusted_users():
            raise _refusal(path, directory, f"it belongs to another user (uid {status.st_uid})")
        if directory != path and status.st_mode & stat.S_ISVTX:
            continue
        if status.st_mode & stat.S_IWOTH:
            raise _refusal(path, directory, "every user may write to it")
        if status.st_mode & stat.S_IWGRP and not _is_ours_alone(status.st_gid):
            raise _refusal(path, directory, f"the group {_group_name(status.st_gid)} may write to it")


def _trusted_users() -> set[int]:
    trusted = {ROOT, os.geteuid()}
    # In a user namespace the files of the outer root seem to belong to the overflow user.
    with suppress(OSError):
        if Path("/proc/self/uid_map").read_text().split() != ALL_USERS_AS_THEY_ARE:
            trusted.add(int(Path("/proc/sys/kernel/overflowuid").read_text()))
    return trusted


def _is_ours_alone(gid: int) -> bool:
    """Return whether this is root's group, or the user's own group without other members, as many systems make it."""
    if gid == ROOT:
        return True
    try:
        we, group = pwd.getpwuid(os.geteuid()), grp.getgrgid(gid)
    except KeyError:
        return False
    members = {*group.gr_mem, *(entry.pw_name for entry in pwd.getpwall() if entry.pw_gid == gid)}
    return we.pw_gid == gid and members == {we.pw_name}


def _group_name(gid: int) -> str:
    with suppress(KeyError):
        return grp.getgrgid(gid).gr_name
    return str(gid)


def _refusal(path: Path, directory: Path, reason: str) -> EmbeddedPostgresError:
    place = "The data directory" if directory == path else f"{directory}, in which the data directory {path} lies,"
    return EmbeddedPostgresError(
        f"{place} is not safe: {reason}, and could replace the password or the data. "
        f"Run `chmod go-w {directory}` if it is yours, or choose another data directory."
    )
