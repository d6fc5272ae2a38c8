"""Inside of `madlab.benchmarks` imports point one way, those inside of functions included."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import madlab.benchmarks

ROOT = Path(madlab.benchmarks.__file__).parent
NAME = "madlab.benchmarks"


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join([NAME, *parts]).removesuffix(".__init__")


def imports(path: Path, known: set[str]) -> set[str]:
    """Every module of this room that a file imports anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= inner & known or {node.module}
    return (found & known) - {module_name(path)}


def test_there_is_no_circle() -> None:
    files = {module_name(path): path for path in ROOT.rglob("*.py")}
    graph = {name: imports(path, set(files)) for name, path in files.items()}
    assert f"{NAME}.folder" in graph[f"{NAME}.domain"]  # the test sees what it should see
    order = list(TopologicalSorter(graph).static_order())  # raises CycleError
    assert order.index(f"{NAME}.split") < order.index(f"{NAME}.folder") < order.index(f"{NAME}.domain")
    assert f"{NAME}.pocket" not in graph[f"{NAME}.fetch"]
