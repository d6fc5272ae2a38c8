"""What a run folder holds, and how a run is claimed, stopped and taken up again.

config.json says what was asked for, metrics.jsonl has one line per epoch, adapter.safetensors is the epoch that was
best on validation, and result.json is written last: a folder that has it is finished. Until then there is a checkpoint.
"""

import os
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from pydantic.dataclasses import dataclass as schema
from torch import Tensor

from madlab.errors import MadlabError
from madlab.files.locks import LOCK
from madlab.files.plain import check_writable
from madlab.files.schemas import STRICT, validated
from madlab.files.tensors import load_tensors, save_tensors
from madlab.runs.config import CONFIG, RunConfig
from madlab.runs.record import METRICS, RESULT, Epoch
from madlab.view import DomainView

ADAPTER, CHECKPOINT = "adapter.safetensors", "checkpoint.safetensors"
FAILURE = "failure.txt"
"""The traceback of a defect that ended the run in a sweep; it goes when the run is finished."""


def check_place(folder: Path, source: Path | str) -> None:
    """Raise MadlabError if `folder` lies inside the data set that it is to be trained on, whose classes are folders."""
    if os.path.isdir(source) and Path(os.path.realpath(folder)).is_relative_to(os.path.realpath(source)):
        raise MadlabError(f"{folder} lies inside the data of {source}, where folders are classes: choose another one.")


def check_config(folder: Path, config: RunConfig) -> None:
    """Raise MadlabError unless the run in `folder` was started with this config."""
    if changed := RunConfig.read(folder).differences(config):
        raise MadlabError(
            f"The run in {folder} was started with other options ({', '.join(changed)}): choose another folder."
        )


def claim(folder: Path, config: RunConfig, resume: bool) -> None:
    """Write the config into a run folder that is new, or with `resume` make sure that it holds the same run.

    MadlabError for a folder that holds something else, and where a file of the run could not be written or removed.
    """
    for name in (METRICS, RESULT, ADAPTER, CHECKPOINT, FAILURE):
        check_writable(folder / name)  # a folder or a FIFO of that name is found now, not after the work
    held = {path.name for path in folder.iterdir() if path.suffix != ".tmp"} - {LOCK, FAILURE}
    if held and CONFIG not in held:
        raise MadlabError(f"The folder {folder} holds something else than a run: choose another one.")
    if held <= {CONFIG}:  # nothing came of it yet, as after a rank that was too large: there is nothing to lose
        config.write(folder)
    elif not resume:
        raise MadlabError(f"The run folder {folder} exists: resume it (--resume) or choose another one.")
    else:
        check_config(folder, config)


@schema(frozen=True, config=STRICT)
class CheckpointFacts:
    """What a checkpoint says besides its tensors: the epochs so far, the seconds they took, the labels' meaning."""

    log: tuple[Epoch, ...]
    seconds: float
    class_names: tuple[str, ...]


@dataclass(frozen=True)
class Checkpoint:
    """Everything that a training needs to go on as if it had not been stopped.

    state: the view's own state; best: that of the best epoch; momentum: of each trained parameter, by its number, where
    it has any. It has none with a momentum of 0, nor before the parameter's first gradient.
    """

    state: dict[str, Tensor]
    best: dict[str, Tensor]
    momentum: dict[str, Tensor]
    facts: CheckpointFacts

    @staticmethod
    def take(
        view: DomainView, optimiser: torch.optim.Optimizer, best: dict[str, Tensor], facts: CheckpointFacts
    ) -> "Checkpoint":
        """The checkpoint of a training as it stands now."""
        buffers = {str(i): optimiser.state[p].get("momentum_buffer") for i, p in enumerate(_trained(view))}
        momentum = {number: buffer for number, buffer in buffers.items() if buffer is not None}
        return Checkpoint(view.own_state(), best, momentum, facts)

    def write(self, path: Path) -> None:
        """Write it into one file, whole or not at all."""
        parts = {"state": self.state, "best": self.best, "momentum": self.momentum}
        tensors = {f"{part}.{name}": tensor for part, own in parts.items() for name, tensor in own.items()}
        save_tensors(path, tensors, asdict(self.facts))

    @staticmethod
    def read(path: Path, device: torch.device) -> "Checkpoint":
        """What `write` wrote, its tensors on `device`; MadlabError if the file is damaged."""
        tensors, facts = load_tensors(path, device)
        parts: dict[str, dict[str, Tensor]] = {"state": {}, "best": {}, "momentum": {}}
        for key, tensor in tensors.items():
            part, _, name = key.partition(".")
            if part not in parts:
                raise MadlabError(f"{path} is not a checkpoint of a run: remove it and train again.")
            parts[part][name] = tensor
        return Checkpoint(**parts, facts=validated(CheckpointFacts, facts, str(path)))

    def restore(self, view: DomainView, optimiser: torch.optim.Optimizer) -> None:
        """Put a view and its optimiser where they were; MadlabError if the tensors are not those of this domain."""
        for state in (self.best, self.state):  # the best epoch's as well, so that what does not fit shows now
            view.load_own_state(state)
        for i, parameter in enumerate(_trained(view)):
            if (stored := self.momentum.get(str(i))) is not None:
                if stored.shape != parameter.shape:
                    raise MadlabError("The momentum does not fit this domain.")
                # A file holds tensors contiguously; filters may lie in channels_last memory. The fused SGD reads
                # memory in order, whatever the strides, so momentum of other strides would go to other weights.
                buffer = torch.empty_like(parameter, memory_format=torch.preserve_format)
                optimiser.state[parameter]["momentum_buffer"] = buffer.copy_(stored)


def _trained(view: DomainView) -> list[torch.nn.Parameter]:
    return [parameter for group in view.parameter_groups().values() for parameter in group]
