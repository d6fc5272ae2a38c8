"""Whole epochs of full MAD, from images to updated adapters, in images per second: madlab and the classical way."""

import os
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile
from torch.utils.data import DataLoader

from madlab.analysis.bench.clock import Task, interleave, relative_times
from madlab.analysis.bench.costs import CLASSES, Setting
from madlab.analysis.bench.pipeline import classical_loader, random_pictures, write_pictures
from madlab.benchmarks.domain import Domain, Split
from madlab.network import MultiDomainNet
from madlab.runs.epoch import train_epoch
from madlab.runs.rates import make_optimiser
from madlab.runs.recipe import Recipe
from madlab.runs.step import NO_GRAPH, make_step

CLASSICAL = "classical"
OURS = "madlab"
LAUNCHED = "madlab, kernel by kernel"


def time_epochs(
    setting: Setting, rounds: int, device: torch.device, count: int, workers: int | None = None
) -> dict[str, Any]:
    """An epoch over `count` images: the classical way, `train_epoch`, and on a GPU that without graphs, too.

    Classical: JPEG files in folders, PIL transforms in `workers` processes (four, but at most one per core), float32 in
    PyTorch's default memory format, the loss read at every step for the log. Both train the same full MAD with SGD at a
    rate near zero.
    """
    images, labels = random_pictures(count, setting.size * 9 // 8, CLASSES)
    split = Split(images, labels)
    domain = Domain("bench", [str(i) for i in range(CLASSES)], split, split, split).to(device)
    tasks: dict[str, Task] = {OURS: _ours(setting, domain, device)}
    if device.type == "cuda":
        tasks[LAUNCHED] = _ours(setting, domain, device, NO_GRAPH)
    with tempfile.TemporaryDirectory() as folder:
        write_pictures(images, labels, Path(folder))
        workers = min(4, os.cpu_count() or 4) if workers is None else workers
        loader = classical_loader(Path(folder), setting.size, setting.batch, workers)
        tasks[CLASSICAL] = _classical(setting, loader, device)
        table = relative_times(interleave(tasks, rounds, device, warmup=1), CLASSICAL)
    for name, row in table.items():
        row["images_per_second"] = round(1e3 * count / row["milliseconds"])
        if device.type == "cuda" and name != CLASSICAL:  # a profiler does not see into worker processes
            row["busy"] = busy_share(tasks[name])
    return table | {"images": count, "workers": workers}


def _ours(setting: Setting, domain: Domain, device: torch.device, compile: str | None = None) -> Task:
    net = MultiDomainNet(setting.network(device))
    net.add_domain(domain.name, CLASSES)
    view = net.view(domain.name)
    # With this many epochs the first is all warm-up, at rates near zero.
    recipe = Recipe(epochs=10**5, batch_size=setting.batch, crop=setting.size)
    optimiser = make_optimiser(view, recipe)
    step = make_step(view, recipe, optimiser, compile=compile)
    return lambda: train_epoch(view, domain, recipe, optimiser, 0, step=step)


def _classical(setting: Setting, loader: DataLoader, device: torch.device) -> Task:
    net = MultiDomainNet(setting.network(device))
    net.add_domain("bench", CLASSES)
    net.to(memory_format=torch.contiguous_format)
    view: nn.Module = net.view("bench").train()
    optimiser = torch.optim.SGD(net.trainable_parameters("bench"), lr=1e-9, momentum=0.9, nesterov=True)

    def epoch() -> float:
        total = 0.0
        for images, labels in loader:
            loss = F.cross_entropy(view(images.to(device)), labels.to(device))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += loss.item()
        return total / len(loader)

    return epoch


def busy_share(task: Task) -> float:
    """The share of a task's time in which the GPU computes or copies; the profiler slows the host and so lowers it."""
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA]) as recorded:
        began = time.perf_counter()
        task()
        torch.cuda.synchronize()
        seconds = time.perf_counter() - began
    return round(sum(row.self_device_time_total for row in recorded.key_averages()) / 1e6 / seconds, 3)
