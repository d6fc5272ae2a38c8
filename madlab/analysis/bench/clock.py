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
"""Task -> for every round, the seconds on the clock and the seconds that the processor worked for this process."""


def interleave(tasks: Mapping[str, Task], rounds: int, device: torch.device, warmup: int = 2) -> Times:
    """The times of every task in every round, after `warmup` rounds that do not count.

    A round runs each task once, in a random order. On a GPU a task ends when the device has finished.
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


def relative_times(times: Times, reference: str) -> dict[str, dict[str, Any]]:
    """For every task the median in milliseconds, and median and quartiles of its ratio to the reference in each round.

    "processor_ratio" is the median ratio of the processor's time, which other processes disturb much less; it counts
    all threads, and on a GPU only the launching of kernels.
    """
    table = {}
    for name, pairs in times.items():
        rounds = list(zip(pairs, times[reference], strict=True))
        ratios = [seconds / other for (seconds, _), (other, _) in rounds]
        processor_ratios = [worked / other for (_, worked), (_, other) in rounds]
        table[name] = {
            "milliseconds": round(1e3 * statistics.median(seconds for seconds, _ in pairs), 3),
            "ratio": round(statistics.median(ratios), 4),
            "quartiles": [round(ratio, 4) for ratio in quartiles(ratios)],
            "processor_ratio": round(statistics.median(processor_ratios), 4),
        }
    return table


def quartiles(values: list[float]) -> tuple[float, float]:
    """The first and the third quartile; for a single value, that value twice."""
    if len(values) == 1:
        return values[0], values[0]
    first, _, third = statistics.quantiles(values, n=4, method="inclusive")
    return first, third


def synchronise(device: torch.device) -> None:
    """Wait until the device has finished all its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def describe_machine(device: torch.device) -> dict[str, Any]:
    """What a reader has to know about the machine to judge its times."""
    return {
        "date": date.today().isoformat(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type.upper(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "system": platform.system(),
        "load_before": system_load(),
    }


def system_load() -> float | None:
    """Processes that wanted a core, on average over the last minute; None where the system does not say."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
