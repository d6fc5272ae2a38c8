"""Builds a wheel that carries the course: `madlab course` copies its notebooks out of the installed package."""

import json
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

NOTEBOOKS = Path(__file__).parent / "notebooks"


class WithCourse(build_py):
    """The package, and in madlab/course every notebook with empty outputs, which a first run fills."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            self.mkpath(str(Path(self.build_lib, "madlab", "course")))
            for path, copy in self._notebooks():
                copy.write_text(json.dumps(without_outputs(json.loads(path.read_text("utf-8")))), "utf-8")

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        copies = [] if self.editable_mode else [str(copy) for _, copy in self._notebooks()]
        return [*super().get_outputs(include_bytecode), *copies]

    def _notebooks(self) -> list[tuple[Path, Path]]:
        folder = Path(self.build_lib, "madlab", "course")
        return [(path, folder / path.name) for path in sorted(NOTEBOOKS.glob("*.ipynb"))]


def without_outputs(notebook: dict) -> dict:
    """The notebook without outputs and execution counts. The argument is changed in place."""
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = [], None
    return notebook


setup(cmdclass={"build_py": WithCourse})
