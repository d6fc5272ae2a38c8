"""Where the runs of a sweep are brought to their ends: in this process, in several, or on a Ray cluster.

An engine takes runs and yields each, as it ends, with None or what went wrong. What it leaves on disk is the same.
"""

import multiprocessing
import os
import signal
import socket
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from madlab.errors import MadlabError
from madlab.runs.folder import METRICS, RESULT
from madlab.runs.train import train

ENGINES = ("local", "ray")
RETRIES = 3
"""How often Ray starts a run again whose worker died; each time it goes on from its last epoch."""


@dataclass(frozen=True)
class Run:
    """One cell of the grid; options are what `train` is called with besides domain and folder."""

    folder: Path
    domain: str
    options: dict[str, Any]
    epochs: int

    @property
    def finished(self) -> bool:
        return (self.folder / RESULT).exists()

    def epochs_done(self) -> int:
        """As many as its metrics file has lines."""
        metrics = self.folder / METRICS
        return len(metrics.read_bytes().splitlines()) if metrics.exists() else 0


Engine = Callable[[list[Run], Callable[[], None]], Iterator[tuple[Run, str | None]]]
"""Brings runs to their ends and yields each with None or what went wrong; calls the function when time has passed."""


def _finish(run: Run, on_epoch: Callable[[Any], None] | None = None) -> str | None:
    """Bring one run to its end, from wherever it stands; returns what went wrong or None."""
    try:
        train(run.domain, out=run.folder, resume=True, progress=False, on_epoch=on_epoch, **run.options)
    except MadlabError as error:
        return str(error)
    except Exception:  # a full GPU or a defect of ours: it is told at the end, and the other runs go on
        return traceback.format_exc()
    return None


def _finish_elsewhere(run: Run, folder: str) -> str | None:
    """`_finish` in a worker process: with one thread, and in the folder that relative paths start from."""
    os.chdir(folder)
    torch.set_num_threads(1)
    return _finish(run)


def choose_engine(
    name: str, workers: int | None, address: str | None, gpus_per_run: float | None, devices: int | None = None
) -> Engine:
    """The engine of a name with its settings, as `sweep` takes them; MadlabError for what cannot work."""
    if name not in ENGINES:
        raise MadlabError(f"Unknown engine {name!r}: choose one of {', '.join(ENGINES)}.")
    if workers is not None and workers < 1:
        raise MadlabError(f"{workers} workers cannot work: choose at least 1.")
    if name == "ray":
        if devices is not None:
            raise MadlabError("Ray spreads runs over its GPUs by itself: leave out the devices, or the engine ray.")
        if address and workers:
            raise MadlabError("A cluster at an address has its own workers: leave out one of address and workers.")
        _ray()
        address = address or os.environ.get("RAY_ADDRESS")
        if address and address != "auto":
            _check_address(address)
        return lambda runs, show: _on_ray(address, workers, gpus_per_run, runs, show)
    if address or gpus_per_run is not None:
        raise MadlabError("An address and GPUs per run are for Ray: choose the engine ray (--engine ray).")
    if devices is not None:
        gpus = _visible_gpus(devices)
        return lambda runs, show: _in_processes(workers or devices, runs, show, gpus)
    if workers is None or workers == 1:
        return _here
    return lambda runs, show: _in_processes(workers, runs, show)


def _visible_gpus(devices: int) -> list[str]:
    """The first `devices` GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    there = torch.cuda.device_count()
    if not 1 <= devices <= there:
        raise MadlabError(f"{devices} GPUs are not possible: this machine has {there} that may be used.")
    return (os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(there)))).split(",")[:devices]


def _here(runs: list[Run], show: Callable[[], None]) -> Iterator[tuple[Run, str | None]]:
    for run in runs:
        yield run, _finish(run, on_epoch=lambda _: show())


def _in_processes(
    workers: int, runs: list[Run], show: Callable[[], None], gpus: list[str] | None = None
) -> Iterator[tuple[Run, str | None]]:
    """A process a run: what is left in memory by one, or kills it, does not reach the next.

    gpus: names of those to spread the runs over, each worker sees one; without it every worker sees what we see.
    """
    context = multiprocessing.get_context("spawn")
    waiting, free = list(runs), list(range(workers))
    busy: dict[Any, Any] = {}
    try:
        while waiting or busy:
            while waiting and free:
                run, place = waiting.pop(0), free.pop(0)
                gpu = gpus[place % len(gpus)] if gpus else None
                answer, sender = context.Pipe(duplex=False)
                process = context.Process(
                    target=_send_outcome, name=str(run.folder), args=(run, os.getcwd(), gpu, sender), daemon=True
                )
                process.start()
                sender.close()
                busy[answer] = run, process, answer, place
            for ready in wait(list(busy), timeout=1):
                run, process, answer, place = busy.pop(ready)
                free.append(place)
                try:
                    failure = answer.recv()
                except EOFError:
                    process.join()
                    failure = (
                        f"Its process died with exit code {process.exitcode}: sweep again to go on from its last epoch."
                    )
                yield run, failure
            show()
    finally:
        for _, process, _, _ in busy.values():
            process.terminate()


def _send_outcome(run: Run, folder: str, gpu: str | None, sender: Connection) -> None:
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu  # before anything asks the driver
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends its processes itself
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sender.send(_finish_elsewhere(run, folder))


def _end_with_parent() -> None:
    """End this worker when its sweep is gone, however it was killed: the next sweep writes into the same folders."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "a worker has one"
    parent.join()
    os._exit(1)


def _on_ray(
    address: str | None, workers: int | None, gpus_per_run: float | None, runs: list[Run], show: Callable[[], None]
) -> Iterator[tuple[Run, str | None]]:
    ray = _connect(address, workers)
    try:
        gpus = _gpu_share(ray.cluster_resources().get("GPU", 0.0), gpus_per_run)
        work = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=RETRIES)(_finish_elsewhere)
        tasks = {work.options(name=str(run.folder)).remote(run, os.getcwd()): run for run in runs}
        while tasks:
            for task in ray.wait(list(tasks), timeout=1)[0]:
                try:
                    failure = ray.get(task)
                except ray.exceptions.RayError as error:
                    failure = f"Ray could not bring it to its end, with {RETRIES} retries where a worker died: {error}"
                yield tasks.pop(task), failure
            show()
    finally:
        ray.shutdown()


def _connect(address: str | None, workers: int | None) -> ModuleType:
    """Ray, connected to the cluster at `address` or to a new one on this machine."""
    ray = _ray()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a sweep tells nobody what it does
    if address is None:
        _start(ray, workers)
        return ray
    try:
        ray.init(address, logging_level="ERROR", log_to_driver=False)
    except Exception as error:  # Ray has no exception of its own for a start that fails
        hint = "start the cluster, or give the token that it asks for in RAY_AUTH_TOKEN"
        raise MadlabError(f"Ray did not connect to {address} ({error}): {hint}.") from error
    return ray


def _start(ray: Any, workers: int | None) -> None:
    """A new Ray on this machine. It gives itself 30 seconds, no more; a busy machine needs them twice."""
    for last in (False, True):
        try:
            ray.init("local", num_cpus=workers, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
            return
        except Exception as error:
            ray.shutdown()
            if last:
                raise MadlabError(f"Ray did not start on this machine: {error}") from error


def _ray() -> ModuleType:
    try:
        import ray
    except ImportError:
        raise MadlabError("Ray is not installed: pip install 'madlab[cluster]', or leave out the engine ray.") from None
    return ray


def _check_address(address: str) -> None:
    """Raise MadlabError unless a gRPC server answers; Ray itself would try for a minute and then end the process."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        raise MadlabError(f"{address!r} is not the address of a Ray cluster: write HOST:PORT, or auto.")
    try:
        with socket.create_connection((host, int(port)), timeout=5) as connection:
            connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0")  # hello, and empty settings
            reply = connection.recv(9)
    except OSError as error:
        raise MadlabError(
            f"There is no Ray cluster at {address} ({error}): start it or correct the address."
        ) from error
    if reply[3:4] != b"\4":
        raise MadlabError(f"What answers at {address} is not a Ray cluster: correct the address.")


def _gpu_share(there: float, asked: float | None) -> float:
    share = min(1.0, there) if asked is None else asked
    if not 0 <= share <= there:
        raise MadlabError(f"{share:g} GPUs for a run are not possible: the cluster has {there:g}.")
    return share
