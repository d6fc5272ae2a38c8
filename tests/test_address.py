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
    mentioned = re.findall(r"github(?:\.com)?/([\w.-]+/madlab)\b", path.read_text())
    assert set(mentioned) <= {REPOSITORY}
    assert len(mentioned) >= (2 if path in NOTEBOOKS else 0)  # the badge and the install cell


def test_the_citation_names_the_repository() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["repository-code"] == f"https://github.com/{REPOSITORY}"
