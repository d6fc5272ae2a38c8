"""What a run folder holds, and how a run is claimed, stopped and taken up again.

config.json says what was asked for, metrics.jsonl has one line an epoch, adapter.safetensors is the best epoch on
validation, and result.json is written last: a folder that has it is finished. Until then there is a checkpoint.
"""

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from madlab.errors import MadlabError
from madlab.files import load_tensors, read_json, save_tensors, write_json
from madlab.network import MultiDomainNet
from madlab.runs.recipe import make_recipe

CONFIG, METRICS, RESULT = "config.json", "metrics.jsonl", "result.json"
ADAPTER, CHECKPOINT = "adapter.safetensors", "checkpoint.safetensors"


@dataclass(frozen=True)
class Result:
    """What a finished run reports; accuracies in percent, seconds of wall time, the rest as in config.json.

    base_parameters: weights of all the base's convolutions; adapter_parameters: as `MultiDomainNet.adapter_size`.
    date: the day on which it finished, YYYY-MM-DD in UTC. rates: the peak learning rates of "adapter", "batchnorm" and
    "head" that it was trained with. Both are empty for runs that were made before they were recorded.
    """

    domain: str
    method: str
    rank: int | None
    seed: int
    base: dict[str, str]
    base_parameters: int
    adapter_parameters: int
    val_accuracy: float
    test_accuracy: float
    best_epoch: int
    epochs: int
    seconds: float
    device: str
    versions: dict[str, str]
    date: str = ""
    rates: dict[str, float] = field(default_factory=dict)

    @staticmethod
    def read(run: Path | str) -> "Result":
        """The result of a run folder; MadlabError if the run has not finished."""
        facts = read_json(Path(run) / RESULT)
        later = {name: facts[name] for name in ("date", "rates") if name in facts}
        return Result(**{field.name: facts[field.name] for field in fields(Result)[:-2]} | later)


def check_config(folder: Path, config: dict[str, Any]) -> None:
    """Raise MadlabError unless the run in `folder` was started with what `config` says, as far as it says it."""
    before = read_json(folder / CONFIG)
    # A field that madlab's recipe got since then counts at its default: that is what the run was made with.
    before["recipe"] = asdict(make_recipe(before["recipe"]))
    changed = [key for key in config if before.get(key) != json.loads(json.dumps(config[key]))]
    if changed:
        raise MadlabError(
            f"The run in {folder} was started with another {' and '.join(changed)}: choose another folder."
        )


def claim(folder: Path, config: dict[str, Any], resume: bool) -> None:
    """Make the run folder, or with `resume` make sure that it holds the same run."""
    held = {path.name for path in folder.iterdir() if path.suffix != ".tmp"} if folder.is_dir() else set()
    if held and CONFIG not in held:
        raise MadlabError(f"The folder {folder} holds something else than a run: choose another one.")
    if held <= {CONFIG}:  # nothing came of it yet, as after a rank that was too large: there is nothing to lose
        write_json(folder / CONFIG, config)
    elif not resume:
        raise MadlabError(f"The run folder {folder} exists: resume it (--resume) or choose another one.")
    else:
        check_config(folder, config)


def save_checkpoint(
    path: Path, net: MultiDomainNet, name: str, optimiser: torch.optim.Optimizer, best: dict[str, Tensor], facts: dict
) -> None:
    """Everything that training goes on from; best: the best epoch's own state; facts: `log` and `seconds` so far."""
    tensors = {f"state.{k}": v for k, v in net.view(name).own_state().items()} | {
        f"best.{k}": v for k, v in best.items()
    }
    for i, parameter in enumerate(net.trainable_parameters(name)):
        tensors[f"momentum.{i}"] = optimiser.state[parameter]["momentum_buffer"]
    save_tensors(path, tensors, facts)


def restore_checkpoint(
    path: Path, net: MultiDomainNet, name: str, optimiser: torch.optim.Optimizer
) -> tuple[list[dict[str, float]], dict[str, Tensor], float]:
    """Take up what `save_checkpoint` wrote; returns the log so far, the best epoch's own state and the seconds."""
    parameters = list(net.trainable_parameters(name))
    tensors, facts = load_tensors(path, device=parameters[0].device)
    parts = {
        part: {k[len(part) + 1 :]: v for k, v in tensors.items() if k.startswith(f"{part}.")}
        for part in ("state", "best")
    }
    net.view(name).load_own_state(parts["state"])
    for i, parameter in enumerate(parameters):
        optimiser.state[parameter]["momentum_buffer"] = tensors[f"momentum.{i}"]
    return facts["log"], parts["best"], facts["seconds"]
