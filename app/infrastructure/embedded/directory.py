"""The data directory: its permissions, its files, and the lock that lets one caller at a time use it.

- `predlog.lock` is held by the supervisor and by every process of the server, and holds the caller's pid;
- `cluster` is PostgreSQL's own data directory, and the only part that the server's account may write to;
- `password` is the owner's, `service_password` the service's, `port` is kept from one start to the next;
- `postgresql.conf` and `pg_hba.conf` are written anew at each start;
- `postgresql.log` and `postgresql.log.1` are the server's log;
- `binaries` is a copy of PostgreSQL's programs, made if the server's account cannot reach the virtualenv.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from pathlib import Path
from typing import BinaryIO

from . import trust
from .errors import EmbeddedPostgresError

LOCK = "predlog.lock"
MAX_PATH_LENGTH = 900  # bytes; PostgreSQL keeps paths in buffers of 1024
LAST_OWNER_SECONDS = 90.0


def default_data_dir() -> Path:
    """Return /var/lib/predlog/postgresql for root, and a path below $XDG_DATA_HOME or ~/.local/share for other users.

    Raises EmbeddedPostgresError for a user without a home directory.
    """
    if os.geteuid() == 0:
        return Path("/var/lib/predlog/postgresql")
    data_home = Path(os.environ.get("XDG_DATA_HOME", ""))
    if not data_home.is_absolute():
        home = Path(os.path.expanduser("~"))
        if not home.is_absolute():
            raise EmbeddedPostgresError("This user has no home directory: set XDG_DATA_HOME, or DATABASE_URL.")
        data_home = home / ".local" / "share"
    return data_home / "predlog" / "postgresql"


class DataDirectory:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.cluster = path / "cluster"
        self.cluster_in_the_making = path / "cluster.new"
        self.binaries = path / "binaries"
        self.lock_file = path / LOCK
        self.password_file = path / "password"
        self.service_password_file = path / "service_password"
        self.port_file = path / "port"
        self.settings_file = path / "postgresql.conf"
        self.access_file = path / "pg_hba.conf"
        self.log_file = path / "postgresql.log"

    def prepare(self) -> None:
        """Create the directory, or check that it is this user's; existing files keep their owners and permissions."""
        if len(os.fsencode(self.path)) > MAX_PATH_LENGTH:
            raise EmbeddedPostgresError(
                f"The data directory's path is longer than {MAX_PATH_LENGTH} bytes: {self.path}"
            )
        if "\n" in str(self.path):
            raise EmbeddedPostgresError(f"The data directory's path has a line break in it: {str(self.path)!r}")
        try:
            _make(self.path)
        except OSError as error:
            raise EmbeddedPostgresError(
                f"The data directory {self.path} cannot be made ({error.strerror}: {error.filename}): "
                "choose one that you may write to, or set DATABASE_URL."
            ) from error
        owner = self.path.stat().st_uid
        if owner != os.geteuid():
            raise EmbeddedPostgresError(
                f"The data directory {self.path} belongs to another user (uid {owner}): "
                "run Predlog as that user, or choose a directory that does not exist yet."
            )
        trust.check(self.path)
        if not self.lock_file.exists() and any(map(_is_content, self.path.iterdir())):
            raise EmbeddedPostgresError(
                f"{self.path} has files in it that are not Predlog's: choose an empty directory or a new one."
            )

    def lock(self) -> int:
        """Take the lock and return its descriptor.

        If a dead caller has left the lock to its supervisor, wait until that has shut PostgreSQL down.
        """
        # Opened for reading, because the server's processes inherit it. NFS refuses such a lock, rightly, because there
        # processes could not inherit it.
        descriptor = os.open(self.lock_file, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            self._wait_for_last_owner(descriptor)
            self._note_owner()
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _note_owner(self) -> None:
        with open(os.open(self.lock_file, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW), "w") as file:
            file.write(f"{os.getpid()}\n")

    def _wait_for_last_owner(self, descriptor: int) -> None:
        deadline = time.monotonic() + LAST_OWNER_SECONDS
        while not _try_lock(descriptor):
            owner = read_number(self.lock_file)
            lives = owner is not None and is_alive(owner)
            if lives or time.monotonic() > deadline:
                holder = f"process {owner}" if lives else "PostgreSQL, though the process that started it has died"
                raise EmbeddedPostgresError(
                    f"The data directory {self.path} is in use by {holder}: end that first, or choose another."
                )
            time.sleep(0.05)

    def wait_until_released(self, seconds: float) -> None:
        """Wait until every process that had inherited the lock is gone, or until the time is over."""
        with contextlib.suppress(FileNotFoundError), _open(self.lock_file) as file:
            deadline = time.monotonic() + seconds
            while not _try_lock(file.fileno()) and time.monotonic() < deadline:
                time.sleep(0.05)

    def in_use(self) -> bool:
        """Return whether any server runs in this directory, or is about to."""
        with contextlib.suppress(FileNotFoundError), _open(self.lock_file) as file:
            return not _try_lock(file.fileno())
        return False

    def read(self, path: Path) -> str | None:
        """Return the text of a file in this directory; None if there is none."""
        with contextlib.suppress(FileNotFoundError), _open(path) as file:
            return file.read().decode()
        return None

    def write(self, path: Path, text: str, mode: int = 0o600) -> None:
        """Replace a file in this directory as a whole, durably, if it differs."""
        if self.read(path) == text:
            return
        staging = path.with_name(f"{path.name}.new")
        staging.unlink(missing_ok=True)  # left by a crash
        with open(os.open(staging, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode), "w") as file:
            os.fchmod(file.fileno(), mode)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        self.rename(staging, path)

    def rename(self, source: Path, target: Path) -> None:
        """Rename a file in this directory, durably."""
        source.rename(target)
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def read_number(path: Path) -> int | None:
    """Return the number on a file's first line, or None."""
    with contextlib.suppress(FileNotFoundError, ValueError), _open(path) as file:
        return int(file.read().partition(b"\n")[0])
    return None


def _open(path: Path) -> BinaryIO:
    """Open a file for reading; a symbolic link is refused."""
    return open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW), "rb")


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # alive, but of another user
    return True


def _make(path: Path) -> None:
    """Create a directory and its missing parents. All users may enter those of root, regardless of the umask."""
    if path.exists():
        return
    _make(path.parent)
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        return  # another start was quicker
    if os.geteuid() == 0:
        path.chmod(0o755)


def _is_content(path: Path) -> bool:
    return not path.name.startswith(".") and path.name != "lost+found"


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise EmbeddedPostgresError(
            f"The data directory cannot be locked ({error.strerror}): choose one on a local file system."
        ) from error
    return True
