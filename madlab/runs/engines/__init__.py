"""Where the runs of a sweep are executed: in this process, in several, or on a Ray cluster.

An engine takes cells of the grid and yields each, when it ends, with None or what went wrong. All engines leave the
same files.
"""

from collections.abc import Callable, Iterator

from madlab.adapters.base import whole_number
from madlab.errors import MadlabError
from madlab.runs.cell import Cell

ENGINES = ("local", "ray")

Engine = Callable[[list[Cell], Callable[[], None]], Iterator[tuple[Cell, str | None]]]
"""Brings cells to their ends and yields each with None or what went wrong; calls the function as time passes."""


def choose_engine(
    name: str, workers: int | None, address: str | None, gpus_per_run: float | None, devices: int | None = None
) -> Engine:
    """The engine of a name with its settings, as `sweep` takes them; MadlabError for what cannot work."""
    if name not in ENGINES:
        raise MadlabError(f"Unknown engine {name!r:.60}: choose one of {', '.join(ENGINES)}.")
    for what, number in (("workers", workers), ("devices", devices)):
        if number is not None and whole_number(number) is None:
            raise MadlabError(f"{number!r:.60} is not a number of {what}: choose a whole number of at least 1.")
    if workers is not None and workers < 1:
        raise MadlabError(f"{workers} workers cannot work: choose at least 1.")
    if name == "ray":
        if devices is not None:
            raise MadlabError("Ray spreads runs over its GPUs by itself: leave out the devices, or the engine ray.")
        from madlab.runs.engines.ray import ray_engine

        return ray_engine(address, workers, gpus_per_run)
    if address or gpus_per_run is not None:
        raise MadlabError("An address and GPUs per run are for Ray: choose the engine ray (--engine ray).")
    from madlab.runs.engines.local import local_engine

    return local_engine(workers, devices)
