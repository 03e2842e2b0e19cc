"""`make release`: the wheels and sdists of the service and of the client, in dist/, with their checksums.

They are built from the last commit, with its time, so whoever builds the same commit with the pinned setuptools gets
the same bytes: <https://reproducible-builds.org/docs/source-date-epoch/>.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
VERSIONS = (Path("app/presentation/version.py"), Path("client/src/predlog/version.py"))
# setuptools leaves other arguments in sys.argv than it found.
BUILD = "import sys; from setuptools import build_meta as b; to = sys.argv[1]; b.build_sdist(to); b.build_wheel(to)"


class NotReady(Exception):
    """The sources cannot be released; the text says why."""


def version(sources: Path) -> str:
    """The version of service and client. Raises NotReady if they differ, or if the changelog does not know it."""
    found = {re.findall(r'__version__ = "(.+)"', (sources / path).read_text())[0] for path in VERSIONS}
    if len(found) > 1:
        raise NotReady(f"The service and the client have different versions: {', '.join(sorted(found))}.")
    [number] = found
    if not re.search(
        rf"^## \[{re.escape(number)}\] - \d{{4}}-\d\d-\d\d$", (sources / "CHANGELOG.md").read_text(), re.M
    ):
        raise NotReady(f"CHANGELOG.md has no entry for {number} with a date.")
    return str(number)


def build(sources: Path, target: Path, epoch: int) -> list[Path]:
    """Build both packages into `target`; `sources` gets files of the build, so it should be a copy.

    `epoch` is the time that every file has, in seconds since 1970. Returns the files that were made, by name.
    """
    target.mkdir(parents=True, exist_ok=True)
    for package in (sources, sources / "client"):
        subprocess.run(
            [sys.executable, "-c", BUILD, target.resolve()],
            cwd=package, check=True, capture_output=True, umask=0o022,
            env={**os.environ, "SOURCE_DATE_EPOCH": str(epoch)},
        )  # fmt: skip
    for sdist in target.glob("*.tar.gz"):
        normalise(sdist, epoch)
    return sorted(target.iterdir())


def normalise(sdist: Path, epoch: int) -> None:
    """Write the archive again without what differs from one build to the next: times, owners, order, modes."""
    packed = io.BytesIO()
    with (
        tarfile.open(sdist) as old,
        gzip.GzipFile(filename="", mode="wb", fileobj=packed, mtime=epoch) as compressed,
        tarfile.open(mode="w", fileobj=compressed, format=tarfile.PAX_FORMAT) as new,
    ):
        for member in sorted(old.getmembers(), key=lambda each: each.name):
            clean = tarfile.TarInfo(member.name)
            clean.type, clean.size, clean.mtime = member.type, member.size, epoch
            clean.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            new.addfile(clean, old.extractfile(member) if member.isfile() else None)
    sdist.write_bytes(packed.getvalue())


def checksums(files: list[Path]) -> str:
    """Lines as `sha256sum --check` reads them."""
    return "".join(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in files)


def main() -> int:
    target = ROOT / "dist"
    with tempfile.TemporaryDirectory() as folder:
        archive = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, check=True, capture_output=True).stdout
        with tarfile.open(fileobj=io.BytesIO(archive)) as committed:
            committed.extractall(folder, filter="data")
        try:
            number = version(Path(folder))
        except NotReady as reason:
            print(reason, file=sys.stderr)
            return 1
        shutil.rmtree(target, ignore_errors=True)
        epoch = int(subprocess.check_output(["git", "log", "-1", "--format=%ct"], cwd=ROOT))
        files = build(Path(folder), target, epoch)
    (target / "SHA256SUMS").write_text(checksums(files))
    print(f"Predlog {number}:\n{checksums(files)}", end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
