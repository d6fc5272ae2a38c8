"""The picture of rooms in CONTRIBUTING.md is true: every module has a place, and imports go down, without a circle."""

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "madlab"


def rows() -> list[list[str]]:
    """The names in each row of the picture, from top to bottom."""
    (picture,) = re.findall(r"## Rooms\n\n```\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)
    return [line.partition("|")[0].split() for line in picture.splitlines()]


def rooms() -> dict[str, list[Path]]:
    """Module or package directly below madlab -> its files."""
    files = {path.stem: [path] for path in PACKAGE.glob("*.py") if not path.stem.startswith("__")}
    return files | {init.parent.name: [*init.parent.rglob("*.py")] for init in PACKAGE.glob("*/__init__.py")}


def imported(source: str) -> Iterator[str]:
    """The rooms that a file imports from, inside functions too. `import madlab` alone is the public face."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module == "madlab":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and str(node.module).startswith("madlab."):
            yield str(node.module).split(".")[1]
        elif isinstance(node, ast.Import):
            yield from (alias.name.split(".")[1] for alias in node.names if alias.name.startswith("madlab."))


ROOMS = rooms()
ARROWS = {
    room: {name for file in files for name in imported(file.read_text())} - {room} for room, files in ROOMS.items()
}


def test_every_room_is_in_the_picture_once() -> None:
    assert sorted(name for row in rows() for name in row) == sorted(ROOMS)


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_a_room_imports_nothing_from_above(room: str) -> None:
    place = {name: number for number, row in enumerate(rows()) for name in row}
    assert {name for name in ARROWS[room] & ROOMS.keys() if place[name] < place[room]} == set()


def test_there_is_no_circle() -> None:
    TopologicalSorter(ARROWS).prepare()


CONTENTS = {
    init.parent: named
    for init in sorted(PACKAGE.rglob("__init__.py"))
    if (named := re.findall(r"^(\w+)  +\S", ast.get_docstring(ast.parse(init.read_text())) or "", re.MULTILINE))
}
"""Room -> the names on the left of the table that its docstring may hold."""


@pytest.mark.parametrize("room", CONTENTS, ids=lambda room: room.name)
def test_a_table_of_contents_names_what_is_in_the_room(room: Path) -> None:
    inside = {path.stem for path in room.glob("*.py")} | {init.parent.name for init in room.glob("*/__init__.py")}
    assert sorted(CONTENTS[room]) == sorted(name for name in inside if not name.startswith("_"))


def test_imports_are_found_wherever_they_stand() -> None:
    source = (
        "from madlab import figures\ndef f():\n    from madlab.runs.train import train\n    import madlab.view as v"
    )
    assert list(imported(source)) == ["figures", "runs", "view"]
