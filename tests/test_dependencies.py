"""What pyproject.toml declares is what madlab imports, no more and no less."""

import ast
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LAZY = ("cluster", "export", "peers")
"""Extras whose packages madlab imports in the functions that need them."""


def names(requirements: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(text).name) for text in requirements}


def top_level_imports(path: Path) -> Iterator[str]:
    """The first part of every absolute import in a file, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield str(node.module).partition(".")[0]


def imported_by(folder: Path) -> set[str]:
    """The distributions behind the third-party imports of all files below a folder."""
    imported = {name for path in folder.rglob("*.py") for name in top_level_imports(path)}
    known = packages_distributions()
    third_party = imported - set(sys.stdlib_module_names) - {"madlab"}
    return {canonicalize_name(known[name][0]) for name in third_party}


REQUIRED = names(PROJECT["dependencies"])
OPTIONAL = names([text for extra in LAZY for text in PROJECT["optional-dependencies"][extra]])
IMPORTED = imported_by(ROOT / "madlab")


@pytest.mark.parametrize("package", sorted(REQUIRED | OPTIONAL))
def test_every_declared_dependency_is_imported(package: str) -> None:
    assert package in IMPORTED


@pytest.mark.parametrize("package", sorted(IMPORTED))
def test_every_import_is_declared(package: str) -> None:
    assert package in REQUIRED | OPTIONAL


def test_imports_are_found_wherever_they_stand(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text("import numpy.linalg as la\nfrom . import other\ndef f():\n    from PIL import Image\n")
    assert list(top_level_imports(path)) == ["numpy", "PIL"]
