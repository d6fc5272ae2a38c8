"""Runs of a sweep on Ray: on an existing cluster, or on one that is started on this machine for the sweep."""

import importlib.util
import math
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from logging import ERROR
from types import ModuleType

from madlab.errors import MadlabError, reason
from madlab.runs.cell import Cell, finish_in_worker
from madlab.runs.engines import Engine

RETRIES = 3
"""How often Ray starts a run again whose worker died; each time it goes on from its last epoch."""
ANSWER_SECONDS = 60
"""How long a cluster may take to accept a connection."""
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""With this, Ray listens on 127.0.0.1 alone, as it does on Windows and macOS; by default, on every interface. Ray
reads it when it is imported."""


def ray_engine(address: str | None, workers: int | None, gpus_per_run: float | None) -> Engine:
    """The engine for the cluster at `address` or, with None, for one of `workers` processes on this machine.

    RAY_ADDRESS in the environment counts as an address. Raises MadlabError for what cannot work.
    """
    address = address or os.environ.get("RAY_ADDRESS")
    if address and workers:
        raise MadlabError(
            f"The cluster at {address} has its own workers: leave out one of address and workers (RAY_ADDRESS is an "
            "address, too)."
        )
    if gpus_per_run is not None and not 0 <= gpus_per_run < math.inf:
        raise MadlabError(f"{gpus_per_run:g} GPUs for a run are not possible: choose a number from 0 on.")
    if importlib.util.find_spec("ray") is None:
        raise MadlabError("Ray is not installed: pip install 'madlab[cluster]', or leave out the engine ray.")
    if address and address != "auto":
        _check_address(address)
    return lambda cells, show: _on_ray(address, workers, gpus_per_run, cells, show)


def _on_ray(
    address: str | None, workers: int | None, gpus_per_run: float | None, cells: list[Cell], show: Callable[[], None]
) -> Iterator[tuple[Cell, str | None]]:
    ends = signal.getsignal(signal.SIGTERM)
    ray = _connect(address, workers)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, ends)  # Ray has put its own in that place, which ends without a word
    try:
        gpus = _gpu_share(ray.cluster_resources().get("GPU", 0.0), gpus_per_run)
        work = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=RETRIES)(finish_in_worker)
        tasks = {work.options(name=str(cell.folder)).remote(cell, os.getcwd()): cell for cell in cells}
        while tasks:
            for task in ray.wait(list(tasks), timeout=1)[0]:
                try:
                    failure = ray.get(task)
                except ray.exceptions.RayError as error:
                    tried = f"with {RETRIES} retries where a worker died"
                    failure = f"Ray could not bring it to its end, {tried}: {reason(error)}"
                yield tasks.pop(task), failure
            show()
    finally:
        ray.shutdown()


def _connect(address: str | None, workers: int | None) -> ModuleType:
    """Ray, connected to the cluster at `address` or to a new one on this machine."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a sweep tells nobody what it does
    if address is None:
        return _start(workers)
    import ray

    try:
        ray.init(address, logging_level=ERROR, log_to_driver=False)
    except Exception as error:  # Ray has no exception of its own for a start that fails
        raise MadlabError(f"Ray did not connect to {address} ({reason(error)}): start the cluster.") from error
    return ray


def _start(workers: int | None) -> ModuleType:
    """A new Ray on this machine that listens on its loopback interface alone, so that nobody else can send it work."""
    os.environ.update(LOOPBACK)
    import ray

    for last in (False, True):  # Ray gives itself 30 seconds, no more; a busy machine may need them twice
        try:
            ray.init("local", num_cpus=workers, include_dashboard=False, logging_level=ERROR, log_to_driver=False)
            break
        except Exception as error:
            ray.shutdown()
            if last:
                raise MadlabError(f"Ray did not start on this machine: {reason(error)}") from error
    if ray.util.get_node_ip_address() != "127.0.0.1":
        ray.shutdown()
        raise MadlabError("Ray was imported before the sweep and would listen on the network: start a new process.")
    return ray


def _check_address(address: str) -> None:
    """Raise MadlabError unless a Ray cluster accepts a connection.

    That is tried in a process of its own, because Ray ends its process if what answers is something else.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise MadlabError(f"{address!r:.60} is not the address of a Ray cluster: write HOST:PORT, or auto.")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError as error:
        raise MadlabError(
            f"There is no Ray cluster at {address} ({error}): start it or correct the address."
        ) from error
    program = "import sys, ray; ray.init(sys.argv[1], logging_level='ERROR', log_to_driver=False)"
    try:
        done = subprocess.run(
            [sys.executable, "-c", program, address], capture_output=True, text=True, timeout=ANSWER_SECONDS
        )
        failed = done.returncode != 0
    except subprocess.TimeoutExpired:
        failed = True
    if failed:
        raise MadlabError(
            f"What answers at {address} does not accept us as a Ray cluster would: correct the address, or give the "
            "token that the cluster asks for in RAY_AUTH_TOKEN."
        )


def _gpu_share(there: float, asked: float | None) -> float:
    share = min(1.0, there) if asked is None else asked
    if not 0 <= share <= there:
        raise MadlabError(f"{share:g} GPUs for a run are not possible: the cluster has {there:g}.")
    return share
