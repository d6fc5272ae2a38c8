"""Runs of a sweep on this machine: one after the other in this process, or side by side in processes of their own."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any

import torch

from madlab.errors import MadlabError
from madlab.runs.cell import Cell, finish, finish_in_worker
from madlab.runs.engines import Engine


def local_engine(workers: int | None, devices: int | None) -> Engine:
    """The engine for `workers` processes, spread over `devices` GPUs; MadlabError for GPUs that are not there."""
    if devices is not None:
        gpus = _visible_gpus(devices)
        return lambda cells, show: _in_processes(workers or devices, cells, show, gpus)
    if workers is None or workers == 1:
        return _here
    return lambda cells, show: _in_processes(workers, cells, show)


def _visible_gpus(devices: int) -> list[str]:
    """The first `devices` GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    there = torch.cuda.device_count()
    if not 1 <= devices <= there:
        raise MadlabError(f"{devices} GPUs are not possible: this machine has {there} that may be used.")
    return (os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(there)))).split(",")[:devices]


def _here(cells: list[Cell], show: Callable[[], None]) -> Iterator[tuple[Cell, str | None]]:
    for cell in cells:
        yield cell, finish(cell, on_epoch=lambda _: show())


def _in_processes(
    workers: int, cells: list[Cell], show: Callable[[], None], gpus: list[str] | None = None
) -> Iterator[tuple[Cell, str | None]]:
    """One process per run, so that what a run leaves in memory, or what kills it, does not reach the next one.

    gpus: names of those to spread the runs over, of which each worker sees one; without it every worker sees all.
    """
    waiting, free = list(cells), list(range(min(workers, len(cells))))
    busy: dict[Any, Any] = {}
    try:
        while waiting or busy:
            while waiting and free:
                cell, place = waiting.pop(0), free.pop(0)
                process, answer = _start(cell, gpus[place % len(gpus)] if gpus else None)
                busy[answer] = cell, process, place
            for answer in wait(list(busy), timeout=1):
                cell, process, place = busy.pop(answer)
                free.append(place)
                yield cell, _outcome(process, answer)
            show()
    finally:
        for _, process, _ in busy.values():
            process.terminate()


def _start(cell: Cell, gpu: str | None) -> tuple[Any, Any]:
    """A process that finishes a run, and where its outcome will arrive."""
    context = multiprocessing.get_context("spawn")
    answer, sender = context.Pipe(duplex=False)
    arguments = (cell, os.getcwd(), gpu, sender)
    process = context.Process(target=_send_outcome, name=str(cell.folder), args=arguments, daemon=True)
    with _without_interrupts():
        process.start()
    sender.close()
    return process, answer


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """What starts in here is not reached by Ctrl-C, which goes to the whole group: the parent ends it itself."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # whose start would let interrupts through again; Windows has none
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _outcome(process: Any, answer: Any) -> str | None:
    try:
        failure: str | None = answer.recv()
    except EOFError:
        process.join()
        return f"Its process died with exit code {process.exitcode}: sweep again to go on from its last epoch."
    return failure


def _send_outcome(cell: Cell, folder: str, gpu: str | None, sender: Connection) -> None:
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu  # before anything asks the driver
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends its processes itself
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sender.send(finish_in_worker(cell, folder))


def _end_with_parent() -> None:
    """End this worker when its sweep is gone, however it was killed: the next sweep writes into the same folders."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "a worker has one"
    parent.join()
    os._exit(1)
