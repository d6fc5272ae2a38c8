"""Write the repository's address, which pyproject.toml has, wherever it is repeated, and README's list of notebooks.

    python data_scripts/links.py [OWNER/NAME]

With OWNER/NAME the address is changed first: in pyproject.toml, CITATION.cff, README, the page on one's own images, and
the badge and the install cell of every notebook. Without it everything that repeats the address is written again, after
a notebook was added for example.
"""

import argparse
import re
import sys
from pathlib import Path

import nbformat

from madlab.files.plain import write_bytes

ROOT = Path(__file__).parents[1]
ADDRESS = re.compile(r'^Repository = "https://github\.com/([\w.-]+/[\w.-]+)"$', re.M)
BEGIN, END = "|:--|:--|--:|\n", "<!-- end of notebooks, which make links writes -->"
INSTALL = """\
import subprocess
import sys
from importlib.util import find_spec

found = find_spec("madlab")
there = getattr(found, "origin", None)  # a folder of that name is no package
source = "git+https://github.com/{repository}"
if there and not (found.submodule_search_locations and find_spec("madlab.lessons")):
    raise SystemExit(f"{there} is another project: remove it (pip uninstall madlab), then pip install {source}")
if not there and "google.colab" in sys.modules:  # which lacks nothing but madlab itself
    if subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--no-deps", source]).returncode:
        raise SystemExit("pip could not install madlab; above, it says why. A wheel can be uploaded instead.")
elif not there:
    raise SystemExit(f"madlab is not installed here: pip install {source}")"""
"""The first code cell of every notebook. The package index has another project of this name: no cell installs that."""


def repository(root: Path) -> str:
    """Owner and name, as pyproject.toml has them."""
    (found,) = ADDRESS.findall((root / "pyproject.toml").read_text())
    return found


def colab(repo: str, notebook: str) -> str:
    """The address that opens a notebook in Colab."""
    return f"https://colab.research.google.com/github/{repo}/blob/main/notebooks/{notebook}"


def rename(root: Path, old: str, new: str) -> None:
    """Write the new address into everything that repeats the old one."""
    texts = ("pyproject.toml", "CITATION.cff", "README.md", "notebooks/site/own_images.md")
    for path in (*(root / text for text in texts), *_notebooks(root)):
        text = path.read_text()
        for before in ("github.com/", "google.com/github/"):
            text = re.sub(rf"{re.escape(before + old)}(?![\w-])", before + new, text)
        _write(path, text)


def write_install_cells(root: Path) -> None:
    """Give every notebook the install cell of this file."""
    for path in _notebooks(root):
        notebook = nbformat.read(path, as_version=4)
        for cell in notebook.cells:
            if "install" in cell.metadata.get("tags", []):
                cell.source = INSTALL.replace("{repository}", repository(root))
        _write(path, nbformat.writes(notebook, version=4).rstrip() + "\n")


def list_notebooks(root: Path) -> None:
    """Write README's table: a badge, the title and the minutes of every notebook, as its card has them."""
    rows = []
    for path in sorted((root / "notebooks").glob("[0-9][0-9]_*.ipynb")):
        card = nbformat.read(path, as_version=4).cells[0].source
        title = card.splitlines()[0].removeprefix("# ")
        minutes = " + ".join(re.findall(r"\d+", next(line for line in card.splitlines() if "**Reading**" in line)))
        badge = f"[![Open in Colab](notebooks/site/static/colab.svg)]({colab(repository(root), path.name)})"
        rows.append(f"| {badge} | [{title}](notebooks/{path.name}) | {minutes} |\n")
    readme = root / "README.md"
    before, rest = readme.read_text().split(BEGIN)
    _write(readme, before + BEGIN + "".join(rows) + END + rest.split(END)[1])


def _notebooks(root: Path) -> list[Path]:
    return [*sorted((root / "notebooks").glob("*.ipynb")), root / "notebooks" / "site" / "template.ipynb"]


def _write(path: Path, text: str) -> None:
    if text != path.read_text():
        write_bytes(path, text.encode())
        print(f"{path.name} written")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repo", nargs="?", metavar="OWNER/NAME", help="the new address on GitHub")
    parser.add_argument("--root", type=Path, default=ROOT, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.repo is not None:
        if not re.fullmatch(r"[A-Za-z0-9-]+/(?!\.+$)(?![\w.-]*\.git$)[\w.-]+", options.repo):
            sys.exit(f"{options.repo!r} is not a repository: write OWNER/NAME, as in make links REPO=owner/name.")
        rename(options.root, repository(options.root), options.repo)
    write_install_cells(options.root)
    list_notebooks(options.root)


if __name__ == "__main__":
    main()
