"""The address of the repository is written in [project.urls]; whatever else repeats it says the same."""

import re
from pathlib import Path

import pytest
import yaml
from notebook_tools import NOTEBOOKS, REPOSITORY, ROOT

PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", ROOT / "pyproject.toml"]
FILES = [*PAGES, *(ROOT / "notebooks" / "site").glob("*.*"), *NOTEBOOKS]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_mention_of_the_repository_is_the_same(path: Path) -> None:
    name = REPOSITORY.partition("/")[2]
    mentioned = re.findall(rf"github(?:\.com)?/([\w.-]+/{re.escape(name)})\b", path.read_text())
    assert set(mentioned) <= {REPOSITORY}
    # The badge and the install cell of a notebook; the address itself.
    assert len(mentioned) >= (2 if path in NOTEBOOKS else path.name in ("README.md", "pyproject.toml"))


def test_the_citation_names_the_repository() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["repository-code"] == f"https://github.com/{REPOSITORY}"
