"""Every command that a page names is one that the command line, or a script of ours, takes with these options."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from notebook_tools import NOTEBOOKS, read

from madlab.cli.parser import parse
from madlab.errors import MadlabError

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "notebooks" / "site").glob("*.md")), *NOTEBOOKS]
SHARED = dict.fromkeys(("finals.py", "replicates.py"), "tune.py")
"""Scripts whose options another one defines."""


def commands(page: Path) -> Iterator[tuple[str, str, list[str]]]:
    """What is called, madlab or a script, the word after it and all options: of the lines of a page's code."""
    text = page.read_text() if page.suffix == ".md" else "\n".join(cell.source for cell in read(page.stem[:2]).cells)
    for block in re.findall(r"```\w*\n(.*?)```", text.replace("\\\n", " "), re.DOTALL):
        for line in block.splitlines():
            command = re.split(r" {3,}| # ", line)[0]  # then comes what it does
            if found := re.match(r"!?(madlab|python data_scripts/(\w+\.py)) +(\S+)", command):
                yield found[2] or "madlab", found[3], re.findall(r"(?<=[ \[])--[a-z-]+", command)


def options_of(command: str, capsys: pytest.CaptureFixture[str]) -> set[str]:
    with pytest.raises(SystemExit):
        parse([command, "--help"])
    return set(re.findall(r"--[a-z-]+", capsys.readouterr().out))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_options_of_a_pages_commands_are_taken(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for called, word, given in commands(page):
        if called == "madlab":
            known = options_of(word, capsys)
        else:
            script = (ROOT / "data_scripts" / SHARED.get(called, called)).read_text()
            known = set(re.findall(r'"(--[a-z-]+)"', script))
        assert set(given) - known == set(), (called, word)


def test_there_are_commands_to_try() -> None:
    found = [command for page in PAGES for command in commands(page)]
    assert {word for called, word, _ in found if called == "madlab"} >= {"train", "evaluate", "predict", "diagnose"}
    assert {called for called, _, _ in found} >= {"tune.py", "fair_table.py"} and len(found) > 40
    with pytest.raises(MadlabError):
        parse(["evaluated", "--help"])
