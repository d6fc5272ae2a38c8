"""The environment of all tests and notebooks, set before torch is loaded; notebook kernels inherit it."""

import os
import shutil
import tempfile

import pytest

os.environ["TQDM_DISABLE"] = "1"  # nbval compares stderr
WORKER = "PYTEST_XDIST_WORKER" in os.environ
if WORKER:
    os.environ["OMP_NUM_THREADS"] = "1"  # with all threads each, workers would slow each other down


def pytest_configure(config: pytest.Config) -> None:
    """Give the session its own cache: each generated domain is made once, by the first worker that needs it."""
    if not WORKER:
        os.environ["MADLAB_DATA"] = tempfile.mkdtemp(prefix="madlab-tests-")


def pytest_unconfigure(config: pytest.Config) -> None:
    if not WORKER:
        shutil.rmtree(os.environ["MADLAB_DATA"], ignore_errors=True)
