"""The environment of all tests and notebooks, set before torch is loaded; notebook kernels inherit it."""

import importlib.util
import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

os.environ["TQDM_DISABLE"] = "1"  # nbval compares stderr
os.environ["MADLAB_TIER"] = "quick"  # whatever this machine has or its user prefers
WORKER = "PYTEST_XDIST_WORKER" in os.environ
if WORKER:
    os.environ["OMP_NUM_THREADS"] = "1"  # with all threads each, workers would slow each other down

# Nothing that is tested needs the internet: sockets to anything but this machine are refused, here and in every Python
# that is started from here, which looks for a module sitecustomize in these folders.
OFFLINE = str(Path(__file__).parent / "tests" / "offline")
if OFFLINE not in os.environ.get("PYTHONPATH", "").split(os.pathsep):
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [OFFLINE, os.environ.get("PYTHONPATH")]))
if OFFLINE not in sys.path:  # else Python has loaded it
    spec = importlib.util.spec_from_file_location("offline", f"{OFFLINE}/sitecustomize.py")
    assert spec is not None and spec.loader is not None
    spec.loader.exec_module(importlib.util.module_from_spec(spec))


def pytest_configure(config: pytest.Config) -> None:
    """Give the session its own cache: each generated domain is made once, by the first worker that needs it."""
    if not WORKER:
        os.environ["MADLAB_DATA"] = tempfile.mkdtemp(prefix="madlab-tests-")


def pytest_unconfigure(config: pytest.Config) -> None:
    if not WORKER:
        shutil.rmtree(os.environ["MADLAB_DATA"], ignore_errors=True)
