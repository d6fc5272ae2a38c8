"""The course as an installed package carries it: copy its notebooks into a folder and open JupyterLab on the first."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from zipfile import ZipFile

from madlab.errors import MadlabError
from madlab.files.plain import write_bytes

PACKED = Path(__file__).parents[1] / "course.zip"
"""Where a wheel has the notebooks (setup.py puts them there); a checkout has them beside the package."""

CHECKOUT = Path(__file__).parents[2] / "notebooks"


def notebooks() -> dict[str, bytes]:
    """The notebooks of the course by file name, in order; MadlabError if this installation has none."""
    if PACKED.exists():
        with ZipFile(PACKED) as archive:
            return {name: archive.read(name) for name in sorted(archive.namelist())}
    if found := sorted(CHECKOUT.glob("[0-9][0-9]_*.ipynb")):
        return {path.name: path.read_bytes() for path in found}
    raise MadlabError(
        "This installation has no notebooks: install a wheel that has them (pip install --force-reinstall --no-deps "
        "WHEEL), or open those of a checkout."
    )


def copy_course(folder: Path | str) -> list[Path]:
    """Copy the notebooks that a folder does not have yet into it, and return these copies.

    What is there already stays as it is, because it may hold the reader's answers. Raises MadlabError if the folder
    cannot be written.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MadlabError(f"The folder {folder} cannot be made ({error.strerror}): name another one.") from error
    missing = {folder / name: data for name, data in notebooks().items() if not (folder / name).exists()}
    for copy, data in missing.items():
        write_bytes(copy, data)
    return list(missing)


def open_course(folder: Path | str) -> subprocess.Popen[bytes]:
    """Open JupyterLab on the first notebook of the folder; returns its process, which has just begun.

    Raises MadlabError if JupyterLab is not installed.
    """
    if find_spec("jupyterlab") is None:
        raise MadlabError(
            'JupyterLab is not installed: install it with pip install "madlab[lab]", '
            "or open the notebooks in the editor of your choice."
        )
    first = next(iter(notebooks()))
    # As root, as in many containers, JupyterLab starts only if it is told to.
    as_root = ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    return subprocess.Popen([sys.executable, "-m", "jupyterlab", *as_root, first], cwd=folder)
