"""How the cost grows with domains, rank, images and width. Each curve should rise at most in proportion."""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from madlab.analysis.bench.clock import interleave, relative_times, synchronise
from madlab.analysis.bench.costs import (
    CLASSES,
    PLAIN,
    Setting,
    build,
    domain_step,
    plain_step,
    seconds_per_switch,
    tensor_bytes,
)
from madlab.benchmarks.loader import batches
from madlab.network import MultiDomainNet


def measure_growth(setting: Setting, rounds: int, device: torch.device) -> dict[str, list[dict[str, Any]]]:
    """Curves as lists of points: "domains", "rank", "images" and, for resnet26, "width"."""
    curves = {
        "domains": grow_domains(setting, device),
        "rank": grow_rank(setting, rounds, device),
        "images": grow_images(setting, device),
    }
    if setting.base == "resnet26":
        curves["width"] = grow_width(setting, rounds, device)
    return curves


def grow_domains(
    setting: Setting, device: torch.device, counts: Sequence[int] = (1, 10, 100)
) -> list[dict[str, float]]:
    """Adding domains of full MAD to one network: seconds per domain, bytes of everything and of the base, switching."""
    net = MultiDomainNet(setting.network(device))
    base, points = tensor_bytes(net.base), []
    for count in counts:
        before, began = len(net.domains), time.perf_counter()
        for number in range(before, count):
            net.add_domain(f"domain {number}", CLASSES)
        synchronise(device)
        seconds, total = time.perf_counter() - began, tensor_bytes(net)
        points.append(
            {
                "domains": count,
                "seconds_per_domain": round(seconds / (count - before), 5),
                "bytes": total,
                "base_bytes": base,
                "bytes_per_domain": (total - base) // count,
                "switch_milliseconds": round(1e3 * seconds_per_switch(net), 5),
            }
        )
    return points


def grow_rank(setting: Setting, rounds: int, device: torch.device) -> list[dict[str, Any]]:
    """The training step of MAD, as a ratio to plain fine-tuning, by rank: powers of two, the highest possible, full."""
    limit = max(min(conv.weight.shape[:2]) for conv in MultiDomainNet(setting.network(device)).convs.values())
    ranks = [2**power for power in range(limit.bit_length()) if 2**power < limit] + [limit]
    net, _ = build(setting, [*(f"mad:{rank}" for rank in ranks), "mad"], device)
    images = setting.images(device)
    tasks = {PLAIN: plain_step(setting, device)} | {name: domain_step(net, name, images) for name in net.domains}
    table = relative_times(interleave(tasks, rounds, device), PLAIN)
    return [
        {"rank": name.partition(":")[2] or "full", "adapter_parameters": net.adapter_size(name)} | table[name]
        for name in net.domains
    ]


def grow_images(
    setting: Setting, device: torch.device, counts: Sequence[int] = (1000, 4000, 16000)
) -> list[dict[str, float]]:
    """An epoch of the loader over more and more images: microseconds per image, and bytes of the images in memory."""
    points = []
    for count in counts:
        side = setting.size * 9 // 8
        images = torch.randint(256, (count, side, side, 3), dtype=torch.uint8).to(device)
        labels = torch.zeros(count, dtype=torch.int64, device=device)
        statistics = {"mean": [0.5] * 3, "std": [0.25] * 3}
        seconds = []
        for epoch in range(3):
            synchronise(device)
            began = time.perf_counter()
            generator = torch.Generator().manual_seed(epoch)
            for _ in batches(images, labels, setting.batch, setting.size, True, generator, statistics):
                pass
            synchronise(device)
            seconds.append(time.perf_counter() - began)
        points.append(
            {"images": count, "microseconds_per_image": round(1e6 * min(seconds) / count, 2), "bytes": images.numel()}
        )
    return points


def grow_width(
    setting: Setting, rounds: int, device: torch.device, widths: Sequence[int] = (8, 16, 32, 64)
) -> list[dict[str, Any]]:
    """The training step of full MAD by the network's width: milliseconds, ratio to plain fine-tuning, weights."""
    points = []
    for width in widths:
        wide = replace(setting, width=width)
        net, _ = build(wide, ["mad"], device)
        tasks = {PLAIN: plain_step(wide, device), "mad": domain_step(net, "mad", wide.images(device))}
        table = relative_times(interleave(tasks, rounds, device), PLAIN)
        weights = sum(conv.weight.numel() for conv in net.convs.values())
        points.append({"width": width, "conv_weights": weights} | table["mad"])
    return points
