"""Builds a wheel that carries the course: `madlab course` copies its notebooks out of the installed package."""

import json
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

from setuptools import setup
from setuptools.command.build_py import build_py

NOTEBOOKS = Path(__file__).parent / "notebooks"


class WithCourse(build_py):
    """The package, and in madlab/course.zip every notebook with empty outputs, which a first run fills."""

    @property
    def course(self) -> Path:
        return Path(self.build_lib, "madlab", "course.zip")

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        with ZipFile(self.course, "w", ZIP_DEFLATED) as archive:
            for path in sorted(NOTEBOOKS.glob("*.ipynb")):
                archive.writestr(path.name, json.dumps(without_outputs(json.loads(path.read_text("utf-8")))))

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        return [*super().get_outputs(include_bytecode), *([] if self.editable_mode else [str(self.course)])]


def without_outputs(notebook: dict) -> dict:
    """The notebook without outputs and execution counts. The argument is changed in place."""
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = [], None
    return notebook


setup(cmdclass={"build_py": WithCourse})
