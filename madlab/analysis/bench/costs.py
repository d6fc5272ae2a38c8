"""What one network, image size and batch costs: the training step, inference, switching, mixed batches, files."""

import copy
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from madlab.adapters import METHODS
from madlab.adapters.base import split_method
from madlab.analysis.bench.clock import Task, interleave, relative_times
from madlab.backbones import load_base, resnet26
from madlab.device import autocast
from madlab.errors import MadlabError, remark
from madlab.network import MultiDomainNet
from madlab.runs.rates import make_optimiser
from madlab.runs.recipe import Recipe
from madlab.runs.step import WARM_UP, Graphs, not_recorded

CLASSES = 100
MOST = 10_000
"""The largest width, size or batch that is measured."""
PLAIN = "plain fine-tuning"
AGAIN = "plain fine-tuning, again"
"""A second copy of the reference: how far its ratio is from 1 shows the noise of this machine."""
LAUNCHED = "plain fine-tuning, kernel by kernel"
"""The reference without the CUDA graph that a GPU runs otherwise."""
DEFAULT = "plain fine-tuning, default memory format"
"""Fine-tuning in a loop of one's own whose author has not heard of memory formats."""
METHODS_MEASURED = [*METHODS, "mad:8"]


@dataclass(frozen=True)
class Setting:
    """What is measured."""

    base: str = "resnet26"
    """The base network: "resnet26", untrained, or what `load_base` takes."""
    width: int | None = 32
    """Channels of the stem; only resnet26 has a choice."""
    size: int = 64
    """Side of the images in pixels."""
    batch: int = 32
    """Images per batch."""

    def __post_init__(self) -> None:
        if self.base != "resnet26" and self.width is not None:
            raise MadlabError(f"Only resnet26 has a choice of width: leave --width out for {self.base}.")
        for name, value, least in (("width", self.width, 1), ("size", self.size, 8), ("batch", self.batch, 1)):
            if value is None:
                continue
            if value < least:
                raise MadlabError(f"A {name} of {value} is too small to measure: choose at least {least}.")
            if value > MOST:
                raise MadlabError(f"A {name} of {value} is too large to measure: choose at most {MOST:,}.")

    def network(self, device: torch.device) -> nn.Module:
        """The base network in channels_last memory, the quicker one; random weights are the same every time."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            base = resnet26(CLASSES, self.width or 32) if self.base == "resnet26" else load_base(self.base)
        return base.to(device).to(memory_format=torch.channels_last)

    def images(self, device: torch.device, count: int | None = None) -> Tensor:
        """A batch of random images, (count or batch, 3, size, size) in channels_last memory."""
        generator = torch.Generator().manual_seed(0)
        images = torch.randn(count or self.batch, 3, self.size, self.size, generator=generator)
        return images.to(device, memory_format=torch.channels_last)


def build(setting: Setting, methods: Sequence[str], device: torch.device) -> tuple[MultiDomainNet, dict[str, str]]:
    """A network with one domain per method, named as the method is written ("mad:8"), and why some methods are absent.

    Raises MadlabError when a method does not exist or when none can be built.
    """
    net, absent = MultiDomainNet(setting.network(device)), {}
    for written in methods:
        method, rank = split_method(written)
        options: dict[str, Any] = {"rank": rank}
        if method in METHODS and "size" in METHODS[method].options:
            options["size"] = setting.size
        try:
            net.add_domain(written, CLASSES, method, **options)
        except MadlabError as error:
            if method not in METHODS:
                raise
            absent[written] = str(error)
    if not net.domains:
        raise MadlabError("None of these methods can be measured: " + " ".join(absent.values()))
    return net, absent


def step_of(
    network: Callable[[Tensor], Tensor], optimiser: torch.optim.Optimizer, images: Tensor, record: bool = True
) -> Task:
    """One training step on one batch: forward, backward, optimiser; the same for every method.

    record: on a GPU, as one CUDA graph, as `train` does; what cannot be recorded is launched kernel by kernel, with a
    warning.
    """
    labels = torch.arange(len(images), device=images.device) % CLASSES

    def step() -> Tensor:
        with autocast(images.device):
            loss = F.cross_entropy(network(images), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return loss.detach()

    return _recorded(step, images.device) if record and images.is_cuda else step


def _recorded(step: Callable[[], Tensor], device: torch.device) -> Task:
    graphs = _graphs_on(device)
    try:
        for _ in range(WARM_UP):
            graphs.aside(step)
        return graphs.record(step)
    except Exception as error:
        remark(not_recorded(error))
        return step


@cache
def _graphs_on(device: torch.device) -> Graphs:
    """One recorder for all tasks, so that they share its memory."""
    return Graphs(device)


def plain_step(setting: Setting, device: torch.device, record: bool = True) -> Task:
    """The reference: a separate copy of the base network with every parameter trained and no class of madlab inside."""
    network = copy.deepcopy(setting.network(device)).requires_grad_(True).train()
    optimiser = torch.optim.SGD(network.parameters(), lr=1e-4, momentum=0.9, nesterov=True, fused=True)
    return step_of(network, optimiser, setting.images(device), record)


def domain_step(net: MultiDomainNet, name: str, images: Tensor) -> Task:
    """One training step of one domain, with the optimiser of `train` at a thousandth of its rates."""
    optimiser = make_optimiser(net.view(name), Recipe())
    for group in optimiser.param_groups:
        group["lr"] = group["peak"] / 1000
    return step_of(net.view(name).train(), optimiser, images)


def time_training(setting: Setting, methods: Sequence[str], rounds: int, device: torch.device) -> dict[str, Any]:
    """The training step of every method as a ratio to plain fine-tuning of the same network."""
    net, absent = build(setting, methods, device)
    images = setting.images(device)
    tasks = {PLAIN: plain_step(setting, device), AGAIN: plain_step(setting, device)}
    tasks |= {LAUNCHED: plain_step(setting, device, record=False)} if device.type == "cuda" else {}
    tasks |= {name: domain_step(net, name, images) for name in net.domains}
    table = relative_times(interleave(tasks, rounds, device), PLAIN)
    for name in net.domains:
        table[name]["adapter_parameters"] = net.adapter_size(name)
    return {"methods": table, "absent": absent}


def time_own_loop(setting: Setting, methods: Sequence[str], rounds: int, device: torch.device) -> dict[str, Any]:
    """The step of a training loop that a reader writes, as a ratio to fine-tuning in the same loop.

    Nothing of `train` is in it: the base as it comes, images in PyTorch's default memory format, SGD with PyTorch's
    defaults. Fine-tuning is in channels_last memory, where it is quicker, and once more in the default format.
    """
    images, default = setting.images(device).contiguous(), torch.contiguous_format
    tasks = {}
    for name, memory_format in ((PLAIN, None), (AGAIN, None), (DEFAULT, default)):
        network = setting.network(device).requires_grad_(True).train()
        if memory_format is not None:
            network.to(memory_format=memory_format)
        tasks[name] = _own_step(network, network.parameters(), images)
    net = MultiDomainNet(setting.network(device).to(memory_format=default)).train()
    for method in methods:
        net.add_domain(method, CLASSES, method)
        tasks[method] = _own_step(partial(net, domain=method), net.trainable_parameters(method), images)
    return relative_times(interleave(tasks, rounds, device), PLAIN)


def _own_step(network: Callable[[Tensor], Tensor], parameters: Iterable[nn.Parameter], images: Tensor) -> Task:
    optimiser = torch.optim.SGD(parameters, lr=1e-5, momentum=0.9, nesterov=True)
    return step_of(network, optimiser, images, record=False)


@torch.no_grad()
def time_inference(setting: Setting, methods: Sequence[str], rounds: int, device: torch.device) -> dict[str, Any]:
    """Inference on one batch as a ratio to the base network: every method as it is, and "merged".

    One merged network stands for all, because merging always leaves plain layers like the base's.
    """
    net, _ = build(setting, methods, device)
    images = setting.images(device)
    merged = next((name for name in net.domains if net.view(name).prompt is None), None)
    networks = {"base": net.base, "base, again": copy.deepcopy(net.base)}
    networks |= {name: net.view(name) for name in net.domains}
    if merged is not None:
        networks["merged"] = net.merge(merged)

    def task(network: nn.Module) -> Task:
        def answer() -> None:
            with autocast(device):
                network(images)

        return answer

    tasks = {name: task(network.eval()) for name, network in networks.items()}
    return relative_times(interleave(tasks, rounds, device), "base")


@torch.no_grad()
def time_mixed(setting: Setting, rounds: int, device: torch.device, count: int = 256, domains: int = 10) -> dict:
    """A batch of `count` images that mixes domains at random, as a ratio to the same batch of one domain (full MAD)."""
    net = MultiDomainNet(setting.network(device))
    for number in range(domains):
        net.add_domain(f"domain {number}", CLASSES)
    net.eval()  # in training mode BatchNorm would take statistics of every small part of the batch
    chosen = torch.randint(domains, (count,), generator=torch.Generator().manual_seed(0)).tolist()
    images, names = setting.images(device, count), [f"domain {number}" for number in chosen]
    tasks = {"one domain": lambda: net(images, names[0]), f"{domains} domains": lambda: net(images, names)}
    return relative_times(interleave(tasks, rounds, device), "one domain") | {"images": count}


def time_switching(setting: Setting, domains: int = 10, turns: int = 1000) -> float:
    """Milliseconds from naming a domain to having the network that runs it, when another domain was used before."""
    net = MultiDomainNet(setting.network(torch.device("cpu")))
    for number in range(domains):
        net.add_domain(f"domain {number}", CLASSES)
    return 1e3 * seconds_per_switch(net, turns)


def seconds_per_switch(net: MultiDomainNet, turns: int = 1000) -> float:
    """Mean time of looking up a domain, over `turns` look-ups that go through the domains one after another."""
    names = [net.domains[turn % len(net.domains)] for turn in range(turns)]
    began = time.perf_counter()
    for name in names:
        net.view(name)
    return (time.perf_counter() - began) / turns


def measure_files(setting: Setting, methods: Sequence[str]) -> dict[str, int]:
    """Bytes of every method's domain file: adapter, BatchNorm and head; "base": of the base network's tensors."""
    net, _ = build(setting, methods, torch.device("cpu"))
    sizes = {"base": sum(tensor.numel() * tensor.element_size() for tensor in net.base.state_dict().values())}
    with tempfile.TemporaryDirectory() as folder:
        for i, name in enumerate(net.domains):
            path = Path(folder) / f"{i}.safetensors"
            net.save_domain(name, path)
            sizes[name] = path.stat().st_size
    return sizes


def tensor_bytes(module: nn.Module) -> int:
    """Bytes of a module's parameters and buffers; memory that several share is counted once."""
    storages = [tensor.untyped_storage() for tensor in (*module.parameters(), *module.buffers())]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())
