"""The scripts of data_scripts/ as modules: they belong to no package."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

FOLDER = Path(__file__).parents[1] / "data_scripts"
sys.path.append(str(FOLDER))  # a script that is run finds those that it takes in its own folder


def load_script(name: str) -> ModuleType:
    """The module of data_scripts/`name`.py, loaded anew."""
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module
