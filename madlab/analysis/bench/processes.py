"""What only a new process shows: how long it takes to start, and how much memory training needs at its peak."""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch

from madlab.analysis.bench.costs import PLAIN, Setting, build, domain_step, plain_step
from madlab.errors import MadlabError
from madlab.runs.epoch import peak_bytes

START = """
import json, time
import torch, torchvision
began = time.perf_counter()
import madlab
lazy = time.perf_counter() - began
for name in madlab.__all__:
    getattr(madlab, name)
print(json.dumps([lazy, time.perf_counter() - began]))
"""


def measure_start(times: int = 5) -> dict[str, float]:
    """Seconds, each the median of several new processes.

    Measured are `import madlab` beyond torch and torchvision, the same with every public name fetched once, and
    `madlab --help` from start to end.
    """
    lazy, whole = zip(*(json.loads(_python("-c", START)) for _ in range(times)), strict=True)
    helps = [_seconds_of_help() for _ in range(times)]
    return {
        "import_seconds": round(statistics.median(lazy), 4),
        "import_all_names_seconds": round(statistics.median(whole), 4),
        "help_seconds": round(statistics.median(helps), 4),
    }


def measure_memory(setting: Setting, methods: Sequence[str], device: torch.device) -> dict[str, float]:
    """Peak memory in MB that three training steps need beyond the built network; each method in its own process."""
    common = {"setting": asdict(setting), "device": str(device), "threads": torch.get_num_threads()}
    peaks = {}
    for method in (PLAIN, *methods):
        request = json.dumps(common | {"method": method})
        peaks[method] = json.loads(_python("-m", "madlab.analysis.bench.processes", request))
    return peaks


def peak_of_training(setting: Setting, method: str, device: torch.device) -> float:
    """MB (10^6 bytes) by which three steps raise the peak memory of this process; on a GPU, PyTorch's peak there."""
    if method == PLAIN:
        step = plain_step(setting, device)
    else:
        net, _ = build(setting, [method], device)
        step = domain_step(net, method, setting.images(device))
    before = peak_bytes(device) or 0
    for _ in range(3):
        step()
    return round(((peak_bytes(device) or 0) - before) / 1e6, 1)


def _seconds_of_help() -> float:
    began = time.perf_counter()
    _python("-m", "madlab", "--help")
    return time.perf_counter() - began


def _python(*arguments: str) -> str:
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
    if done.returncode:
        raise MadlabError(f"A measuring process failed: {(done.stderr.strip() or 'it said nothing').splitlines()[-1]}")
    return done.stdout


def main(request: str) -> None:
    """Print the peak of one method; `measure_memory` starts this in a new process."""
    asked: dict[str, Any] = json.loads(request)
    torch.set_num_threads(asked["threads"])
    print(json.dumps(peak_of_training(Setting(**asked["setting"]), asked["method"], torch.device(asked["device"]))))


if __name__ == "__main__":
    main(sys.argv[1])
