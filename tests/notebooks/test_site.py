"""The pages beside the course name only what exists, and the course's times as its notebooks do. Nothing is built."""

import json
import re
from fnmatch import fnmatch
from pathlib import Path

import pytest
from notebook_tools import NOTEBOOKS, ROOT

SITE = ROOT / "notebooks" / "site"
PAGES = sorted(SITE.glob("*.md"))
MINUTES = re.compile(r"\*\*Reading\*\* \| (\d+) minutes, and (\d+) for the exercises")
RUNNING = re.compile(r"\*\*Running\*\* \| ([^;]*) on two CPU cores")


def toctrees() -> list[str]:
    """The entries of the table of contents, in order."""
    blocks = re.findall(r"```\{toctree\}\n(.*?)```", (SITE / "index.md").read_text(), re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line and not line.startswith(":")]


@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_everything_that_a_page_names_exists(page: Path) -> None:
    text = page.read_text()
    for link in re.findall(r"\]\(([^)]+)\)", text):
        assert link.startswith("https://arxiv.org/") or (SITE / link).is_file(), link
    for path in re.findall(r"`((?:madlab|data_scripts|tests|notebooks)/[^`]*)`", text):
        assert (ROOT / path).exists(), path
    for command in re.findall(r"`make ([a-z-]+)`", text):
        assert re.search(rf"^{command}:", (ROOT / "Makefile").read_text(), re.MULTILINE), command


@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_a_link_that_begins_with_a_number_leads_to_that_notebook(page: Path) -> None:
    for number, target in re.findall(r"\[(\d\d)[^\]]*\]\(([^)]+)\)", page.read_text()):
        assert Path(target).name.startswith(f"{number}_")


def test_every_notebook_and_page_is_in_the_table_of_contents() -> None:
    first, *others = toctrees()
    assert all(fnmatch(f"/{path.stem}", first) for path in NOTEBOOKS)
    assert sorted(others) == [page.stem for page in PAGES if page.stem != "index"]


def test_the_landing_page_opens_on_a_figure_that_its_notebook_shows() -> None:
    before = _page("index").split("\n## ")[0]
    number, name = re.search(r"```\{panel\} (\d\d) (\w+)", before).groups()
    (path,) = (path for path in NOTEBOOKS if path.stem.startswith(number))
    shown = ["".join(cell["source"]) for cell in json.loads(path.read_text())["cells"]]
    assert any(f"\n{name} = widgets." in f"\n{text}" and text.endswith(f"\n{name}") for text in shown)


def test_the_instructors_times_are_those_of_the_cards() -> None:
    rows = re.findall(r"^\| \[(\d\d) · (.+?)\]\(.*?\) \| (\d+) \| (\d+) \| (.+) \|$", _page("instructor"), re.MULTILINE)
    cards = {path.stem[:2]: "".join(json.loads(path.read_text())["cells"][0]["source"]) for path in NOTEBOOKS}
    assert len(rows) > 1
    for number, title, reading, exercises, running in rows:
        assert f"# {number} · {title}\n" in cards[number]
        assert MINUTES.search(cards[number]).groups() == (reading, exercises)
        assert RUNNING.search(cards[number])[1] == running


def test_the_short_path_is_as_long_as_it_says() -> None:
    two_hours = _page("paths").split("## Two hours")[1].split("\n## ")[0]
    numbers = re.findall(r"^\d\. \[(\d\d)", two_hours, re.MULTILINE)
    cards = [path.read_text() for path in NOTEBOOKS if path.stem[:2] in numbers]
    assert 90 <= sum(int(MINUTES.search(card)[1]) for card in cards) <= 120


def _page(name: str) -> str:
    return (SITE / f"{name}.md").read_text()
