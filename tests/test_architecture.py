"""The boundaries between the layers, as DESIGN has them."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
APP = REPOSITORY / "app"
LAYERS = ("domain", "application", "infrastructure", "presentation")
# They put the layers together, or are commands and processes that need the whole.
WIRING = ("factory", "wiring", "commands", "server", "__main__")


def modules(folder: str) -> list[Path]:
    found = sorted((APP / folder).rglob("*.py"))
    assert found, f"there is no app/{folder}"
    return found


def imports(module: Path) -> Iterator[str]:
    """The dotted names of all that a module imports, anywhere in it."""
    package = module.relative_to(REPOSITORY).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = (
                ".".join([*package[: len(package) - node.level + 1], *filter(None, [node.module])])
                if node.level
                else node.module
            )
            yield from (f"{base}.{alias.name}" for alias in node.names)


def is_of(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def is_standard(name: str) -> bool:
    return name.split(".")[0] in sys.stdlib_module_names


@pytest.mark.parametrize("module", modules("domain"), ids=lambda path: path.name)
def test_the_domain_imports_the_standard_library_alone(module: Path) -> None:
    assert [name for name in imports(module) if not (is_standard(name) or is_of(name, "app.domain"))] == []


@pytest.mark.parametrize("module", modules("application"), ids=lambda path: path.name)
def test_the_application_imports_the_domain_alone(module: Path) -> None:
    own = ("app.domain", "app.application")
    assert [n for n in imports(module) if not (is_standard(n) or any(is_of(n, package) for package in own))] == []


@pytest.mark.parametrize(("layer", "other"), [("presentation", "infrastructure"), ("infrastructure", "presentation")])
def test_presentation_and_infrastructure_never_import_each_other(layer: str, other: str) -> None:
    for module in modules(layer):
        assert [name for name in imports(module) if is_of(name, f"app.{other}")] == [], module.name


@pytest.mark.parametrize("layer", LAYERS)
def test_no_layer_imports_what_puts_the_layers_together(layer: str) -> None:
    for module in modules(layer):
        inside = [
            name
            for name in imports(module)
            if is_of(name, "app") and name.split(".")[1:2] not in ([each] for each in LAYERS)
        ]
        assert inside == [], module.name


def test_only_what_puts_the_layers_together_sees_presentation_and_infrastructure() -> None:
    for module in sorted(APP.rglob("*.py")):
        seen = {layer for layer in LAYERS for name in imports(module) if is_of(name, f"app.{layer}")}
        if {"presentation", "infrastructure"} <= seen:
            assert module.relative_to(APP).with_suffix("").parts[0] in WIRING, module


def test_the_wiring_exists_and_sees_every_layer() -> None:
    files = [APP / "factory.py", *modules("wiring")]
    seen = {layer for file in files for layer in LAYERS for name in imports(file) if is_of(name, f"app.{layer}")}
    assert seen >= {"application", "infrastructure", "presentation"}


def import_without_packages(module: str) -> int:
    """The exit code of a Python that sees no installed package and imports the module."""
    command = [sys.executable, "-S", "-c", f"import {module}"]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True).returncode


def test_the_domain_can_be_imported_without_any_installed_package() -> None:
    names = ", ".join(f"app.domain.{path.stem}" for path in modules("domain") if path.stem != "__init__")
    assert import_without_packages(names) == 0
    assert import_without_packages("app.factory") != 0


def test_nothing_is_called_models_for_a_model_is_an_ml_model_here() -> None:
    assert [path for path in APP.rglob("models*") if path.suffix == ".py" or path.is_dir()] == []


def test_these_checks_would_find_an_import_that_is_not_allowed(tmp_path: Path) -> None:
    module = APP / "domain" / "cover.py"
    assert "app.domain.instants.TimeRange" in set(imports(module))
    assert any(is_of(name, "flask") for path in modules("presentation") for name in imports(path))
    assert any(is_of(name, "sqlalchemy") for path in modules("infrastructure") for name in imports(path))
