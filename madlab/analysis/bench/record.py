"""The record of `madlab bench`: what was measured, beside the limits (bars) that this project sets itself."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import torch

from madlab.analysis.bench.clock import describe_machine, system_load
from madlab.analysis.bench.costs import (
    LAUNCHED,
    METHODS_MEASURED,
    Setting,
    measure_files,
    time_inference,
    time_mixed,
    time_own_loop,
    time_switching,
    time_training,
)
from madlab.analysis.bench.epochs import OURS, time_epochs
from madlab.analysis.bench.growth import measure_growth
from madlab.analysis.bench.pipeline import time_pipeline
from madlab.analysis.bench.processes import measure_memory, measure_start
from madlab.device import chosen_device
from madlab.errors import MadlabError

USUAL = (Setting(width=32, size=64, batch=32), Setting(width=16, size=32, batch=64))
"""The decathlon's network as published, and the version of half its width that ships with madlab."""
IN_MEMORY = ("finetune", "batchnorm", "mad", "mad:8")
"""Methods whose peak memory is measured: each takes a process of its own."""

IN_OWN_LOOP = ("mad", "mad:8")
"""Methods that are measured in a loop of one's own."""

PARTS = ("training", "loop", "inference", "mixed", "switching", "files", "memory", "pipeline", "epochs")
"""What is measured for each setting; "start" and "growth" are measured once."""
ALL = [*PARTS, "start"]

BARS_OF_TRAINING = {32: {"mad": 1.00, "mad:8": 1.03}, 16: {"mad": 1.03, "mad:8": 1.06}}
"""Width of resnet26 -> method -> the highest ratio to plain fine-tuning that is allowed, on a CPU."""
BARS_OF_GPU = {"mad": 1.05, "mad:8": 1.05}
"""The same on a GPU, for every width."""
BARS: tuple[tuple[str, str, Callable[[dict[str, Any]], float], float], ...] = (
    ("inference", "merged inference / base", lambda found: found["merged"]["ratio"], 1.00),
    ("mixed", "mixed batch / one domain", lambda found: found["10 domains"]["ratio"], 1.30),
    ("switching", "switching, milliseconds", lambda found: found["milliseconds"], 1.0),
    ("epochs", "epoch / classical epoch", lambda found: found[OURS]["ratio"], 1.00),
    ("pipeline", "torchvision's images per second / ours", lambda found: 1 / found["ratio"], 0.1),
)
"""Part, description, how the value is found in that part, and the highest value that is allowed."""
ON_GPU: tuple[tuple[str, str, Callable[[dict[str, Any]], float], float], ...] = (
    ("training", "plain, as one graph / kernel by kernel", lambda found: 1 / found["methods"][LAUNCHED]["ratio"], 0.5),
    ("epochs", "epoch / a tenth of a classical epoch", lambda found: 10 * found[OURS]["ratio"], 1.00),
    ("epochs", "device idle in an epoch, share", lambda found: 1 - found[OURS]["busy"], 0.10),
)
"""More of them, for a GPU."""


def measure(part: str, setting: Setting, methods: Sequence[str], rounds: int, device: torch.device) -> Any:
    """Measure one of PARTS; returns what the record holds under its name."""
    match part:
        case "training":
            return time_training(setting, methods, rounds, device)
        case "loop":
            return time_own_loop(setting, [name for name in IN_OWN_LOOP if name in methods], rounds, device)
        case "inference":
            return time_inference(setting, methods, rounds, device)
        case "mixed":
            return time_mixed(setting, min(rounds, 7), device)
        case "switching":
            return {"milliseconds": time_switching(setting)}
        case "files":
            return measure_files(setting, methods)
        case "memory":
            return measure_memory(setting, [name for name in IN_MEMORY if name in methods], device)
        case "pipeline":
            return time_pipeline(setting.size, setting.batch, device)
        case "epochs":
            count = (256 if device.type == "cuda" else 8) * setting.batch
            return time_epochs(setting, min(rounds, 3), device, count)
    raise ValueError(part)


def chosen_settings(base: str | None, width: int | None, size: int | None, batch: int | None) -> Sequence[Setting]:
    """The usual settings, or one with these options; what is None is as in the setting of full width."""
    if all(option is None for option in (base, width, size, batch)):
        return USUAL
    full = USUAL[0]
    base = full.base if base is None else base
    if width is None and base == full.base:
        width = full.width
    return [Setting(base, width, full.size if size is None else size, full.batch if batch is None else batch)]


def run_bench(
    settings: Sequence[Setting] = USUAL,
    methods: Sequence[str] = METHODS_MEASURED,
    rounds: int = 15,
    parts: Sequence[str] = ALL,
    growth: bool = False,
    device: torch.device | str | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Measure; returns the record that `--json` writes.

    parts: some of ALL. growth: also the curves of `madlab.analysis.bench.growth`, for the last of the settings. tell:
    called with a line before each part. Raises MadlabError for a part, method or base that does not exist, for fewer
    than one round, and for epochs in batches of one image.
    """
    if rounds < 1:
        raise MadlabError(f"{rounds} rounds measure nothing: choose at least 1.")
    for part in parts:
        if part not in ALL:
            raise MadlabError(f"There is no part {part!r}: choose some of {', '.join(ALL)}.")
    trains = [part for part in ("pipeline", "epochs") if part in parts]
    if trains and any(setting.batch < 2 for setting in settings):
        raise MadlabError(f"An epoch is not trained image by image: choose a larger batch, or leave {trains[0]} out.")

    device = chosen_device(device)
    record: dict[str, Any] = {"machine": describe_machine(device), "rounds": rounds, "settings": []}
    for setting in settings:
        tell(str(setting))
        found: dict[str, Any] = {"setting": asdict(setting)}
        for part in PARTS:
            if part in parts:
                tell(part)
                found[part] = measure(part, setting, methods, rounds, device)
        record["settings"].append(found)
    if "start" in parts:
        tell("start")
        record["start"] = measure_start()
    if growth:
        tell("growth")
        record["growth"] = {"setting": asdict(settings[-1])} | measure_growth(settings[-1], rounds, device)

    record["machine"]["load_after"] = system_load()
    record["bars"] = bars(record)
    return record


def bars(record: dict[str, Any]) -> list[dict[str, Any]]:
    """Each bar of the project for which this record has a value: what, value, limit, met (to two digits).

    There are bars for CPUs and for GPUs of NVIDIA.
    """
    if record["machine"]["device"] == "MPS":
        return []
    found, on_gpu = [], record["machine"]["device"] != "CPU"
    for part in record["settings"]:
        setting = part["setting"]
        where = f"{setting['base']} {setting['width'] or ''}".strip() + f", {setting['size']} px"
        limits = BARS_OF_TRAINING.get(setting["width"], {}) if setting["base"] == "resnet26" else {}
        tables = {
            "training step": (
                part["training"]["methods"] if "training" in part else {},
                BARS_OF_GPU if on_gpu else limits,
            ),
            "step of one's own loop": (part.get("loop", {}), {} if on_gpu else limits),
        }
        for what, (table, allowed) in tables.items():
            for method in allowed.keys() & table.keys():
                found.append((f"{where}: {what}, {method} / plain", table[method]["ratio"], allowed[method]))
        for name, what, value_in, limit in BARS + (ON_GPU if on_gpu else ()):
            if name in part and (name != "inference" or "merged" in part[name]):
                found.append((f"{where}: {what}", value_in(part[name]), limit))
    if "start" in record:
        found.append(("import madlab, seconds", record["start"]["import_all_names_seconds"], 0.3))
        found.append(("madlab --help, seconds", record["start"]["help_seconds"], 1.0))
    return [
        {"what": what, "value": round(value, 4), "limit": limit, "met": value < limit + 0.005}
        for what, value, limit in sorted(found)
    ]
