"""Tasks timed in turns, so that whatever else the machine does affects all of them alike."""

import os
import platform
import random
import statistics
import time
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import trange

Task = Callable[[], Any]
Times = dict[str, list[tuple[float, float]]]
"""For every task and round: seconds on the clock, and seconds that the processor worked for this process."""


def interleave(tasks: Mapping[str, Task], rounds: int, device: torch.device, warmup: int = 2) -> Times:
    """The times of every task in every round, after `warmup` rounds that do not count.

    A round runs each task once, in an order of its own. On a GPU a task ends when the device has finished.
    """
    names, order = list(tasks), random.Random(0)
    times: Times = {name: [] for name in names}
    for turn in trange(warmup + rounds, desc="rounds", leave=False):
        order.shuffle(names)
        for name in names:
            synchronise(device)
            began, worked = time.perf_counter(), time.process_time()
            tasks[name]()
            synchronise(device)
            if turn >= warmup:
                times[name].append((time.perf_counter() - began, time.process_time() - worked))
    return times


def compare(times: Times, reference: str) -> dict[str, dict[str, Any]]:
    """For every task its median milliseconds and its ratio to the reference of the same round, median and quartiles.

    "processor_ratio" is the median ratio of the processor's time, which other processes disturb much less; it counts
    all threads, and on a GPU only the launching.
    """
    table = {}
    for name, pairs in times.items():
        ratios, worked = (
            [own[i] / other[i] for own, other in zip(pairs, times[reference], strict=True)] for i in (0, 1)
        )
        table[name] = {
            "milliseconds": round(1e3 * statistics.median(seconds for seconds, _ in pairs), 3),
            "ratio": round(statistics.median(ratios), 4),
            "quartiles": [round(ratio, 4) for ratio in quartiles(ratios)],
            "processor_ratio": round(statistics.median(worked), 4),
        }
    return table


def quartiles(values: list[float]) -> tuple[float, float]:
    """The first and the third quartile; of one value, that value twice."""
    if len(values) == 1:
        return values[0], values[0]
    first, _, third = statistics.quantiles(values, n=4, method="inclusive")
    return first, third


def synchronise(device: torch.device) -> None:
    """Wait until the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def describe_machine(device: torch.device) -> dict[str, Any]:
    """What a reader has to know about the machine to judge its times."""
    facts = {
        "date": date.today().isoformat(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "system": platform.system(),
    }
    return facts | {"load_before": load()}


def load() -> float | None:
    """Processes that wanted a core, on average over the last minute; None where the system does not say."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
