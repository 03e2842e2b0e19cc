"""The workflow of .github checks what is promised, on Pythons that have what it needs."""

from __future__ import annotations

import re
from configparser import ConfigParser
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from support.service import ROOT

JOBS = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]
SETUP = ConfigParser()
SETUP.read(ROOT / "setup.cfg")


def pythons(job: dict[str, Any]) -> list[str]:
    """The versions on which the steps of the job run."""
    if "strategy" in job:
        return list(job["strategy"]["matrix"]["python"])
    return [step["with"]["python-version"] for step in job["steps"] if "setup-python" in step.get("uses", "")]


def jobs_that_run(target: str) -> list[dict[str, Any]]:
    """Those with this target of the Makefile."""
    wanted = re.compile(rf"make\b.* {target}\b")
    return [job for job in JOBS.values() if any(wanted.search(step.get("run", "")) for step in job["steps"])]


def test_types_are_checked_on_pythons_that_have_all_that_the_tests_import() -> None:
    jobs = jobs_that_run("lint")
    assert jobs
    requirements = [Requirement(line) for line in SETUP["options.extras_require"]["test"].split("\n") if line]
    for python in (python for job in jobs for python in pythons(job)):
        there = {"python_version": python, "python_full_version": f"{python}.0"}
        missing = [each.name for each in requirements if each.marker and not each.marker.evaluate(there)]
        assert not missing, f"not for Python {python}"


@pytest.mark.parametrize(("job", "promise"), [("service", "setup.cfg"), ("client", "client/pyproject.toml")])
def test_the_oldest_python_that_is_promised_runs_the_tests(job: str, promise: str) -> None:
    oldest = re.search(r"^(?:python_requires|requires-python) = \"?>=([\d.]+)", (ROOT / promise).read_text(), re.M)
    assert oldest
    assert pythons(JOBS[job])[0] == oldest[1]
