"""What a run folder holds, and how a run is claimed, stopped and resumed.

config.json says what was asked for, metrics.jsonl has one line per epoch, adapter.safetensors is the epoch that was
best on validation, and result.json is written last: a folder that has it is finished. Until then there is a checkpoint.
"""

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass as schema
from torch import Tensor

from madlab.benchmarks import is_folder, split_digest
from madlab.benchmarks.domain import Domain, match_classes
from madlab.benchmarks.walk import hidden
from madlab.errors import MadlabError
from madlab.files.locks import LOCK
from madlab.files.plain import check_writable
from madlab.files.schemas import STRICT, validated
from madlab.files.tensors import load_tensors, save_tensors
from madlab.hub import ADAPTER as ADAPTER
from madlab.runs.config import CONFIG, RunConfig
from madlab.runs.recipe import Share
from madlab.runs.record import METRICS, RESULT, Epoch, Percent
from madlab.view import DomainView

CHECKPOINT = "checkpoint.safetensors"
BATCH = "batch.png"
"""The first images of the first batch, as the network gets them."""
FAILURE = "failure.txt"
"""Why a run ended early: a loss that is not a number, or the traceback of a defect that ended it in a sweep. It goes
when the run goes on."""
REMEDY = "it is damaged, or of another version of madlab: remove it to begin anew"


def check_place(folder: Path, source: str) -> None:
    """Raise MadlabError if `folder` lies inside the data that it is to be trained on, whose classes are folders.

    source: the domain as `load_domain` takes it.
    """
    if is_folder(source) and Path(os.path.realpath(folder)).is_relative_to(os.path.realpath(source)):
        raise MadlabError(f"{folder} lies inside the data of {source}, where folders are classes: choose another one.")


def check_same_split(config: RunConfig, where: Path | str) -> None:
    """Raise MadlabError if the images of a run have been split in another way since; where: its folder or file."""
    source = config.source
    if source is None or config.split is None or not os.path.exists(source):
        return
    if split_digest(source) != config.split:
        raise MadlabError(
            f"The images of {source} were split anew since the run {where}, which may have trained on what are test "
            "images now: bring the old split file back, or train again."
        )


def check_config(folder: Path, config: RunConfig) -> None:
    """Raise MadlabError unless the run in `folder` was started with this config."""
    if changed := RunConfig.read(folder).changes(config):
        raise MadlabError(f"The run in {folder} was started with other options ({changed}): choose another folder.")


def claim(folder: Path, config: RunConfig, resume: bool) -> None:
    """Write the config into a run folder that is new, or with `resume` make sure that it holds the same run.

    MadlabError for a folder that holds something else, and where a file of the run could not be written or removed.
    """
    for name in (METRICS, RESULT, ADAPTER, BATCH, CHECKPOINT, FAILURE):
        check_writable(folder / name)  # a folder or a FIFO of that name is found now, not after the work
    names = {path.name for path in folder.iterdir() if path.suffix != ".tmp" and not hidden(path.name)}
    held = names - {LOCK, FAILURE, BATCH}
    if held and CONFIG not in held:
        raise MadlabError(f"The folder {folder} holds something else than a run: choose another one.")
    if held <= {CONFIG}:  # nothing came of it yet, as after a rank that was too large: there is nothing to lose
        if held:
            RunConfig.read(folder)  # or is it somebody else's config.json?
        config.write(folder)
    elif not resume:
        raise MadlabError(f"The run folder {folder} exists: resume it (--resume) or choose another one.")
    else:
        check_config(folder, config)
    (folder / FAILURE).unlink(missing_ok=True)  # why it ended the last time


def clear_leftovers(folder: Path) -> None:
    """Remove from a finished run what only an unfinished one needs; MadlabError if that is not possible."""
    for path in (folder / CHECKPOINT, folder / FAILURE):
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise MadlabError(
                f"The run is finished, but {path} could not be removed ({error.strerror}): remove it."
            ) from error


@schema(frozen=True, config=STRICT)
class CheckpointFacts:
    """What a checkpoint says besides its tensors.

    config: of its run. images: how many there were in "train" and "val". class_names: what the labels mean. log: the
    epochs so far; seconds: the time that they took. rates: the peak learning rates, which are the method's own where
    the config has none, and may be others in another version of madlab. start: validation accuracy before the first
    step, in percent, where it was measured. filter_factors: as in `Result`. digests: sha256 of "train" and "val",
    pixels and labels. head_factor: `rates.head_factor` before the first step, which statistics that moved would change.
    """

    config: RunConfig
    images: dict[str, int]
    class_names: tuple[str, ...]
    log: tuple[Epoch, ...]
    seconds: Annotated[float, Field(ge=0)]
    rates: dict[str, float]
    start: Percent | None
    filter_factors: dict[str, Share]
    digests: dict[str, str]
    head_factor: float

    def matched(self, config: RunConfig, domain: Domain, folder: Path) -> Domain:
        """The domain in the order of these classes; MadlabError if a run of `config` on it would not be the same run.

        folder: the run folder, for the message.
        """
        if changed := self.config.changes(config):
            raise MadlabError(
                f"{folder / CHECKPOINT} is of a run with other options ({changed}): remove it to begin anew."
            )
        if (images := images_of(domain)) != self.images:
            before, now = (", ".join(f"{n} in {split}" for split, n in own.items()) for own in (self.images, images))
            raise MadlabError(
                f"When the run in {folder} was stopped, domain {domain.name!r} had other images ({before}; now {now}): "
                "bring them back, or choose another folder."
            )
        domain = match_classes(domain, self.class_names, f"the run in {folder}")
        if self.digests != digests_of(domain):
            raise MadlabError(
                f"Since the run in {folder} was stopped, images or labels of domain {domain.name!r} have changed: "
                "bring the old ones back, or choose another folder."
            )
        return domain


def images_of(domain: Domain) -> dict[str, int]:
    """How many images a training sees of a domain."""
    return {"train": len(domain.train), "val": len(domain.val)}


def digests_of(domain: Domain) -> dict[str, str]:
    """What tells the images and labels that a training sees from all others."""
    return {"train": domain.train.sha256(), "val": domain.val.sha256()}


@dataclass(frozen=True)
class Checkpoint:
    """Everything that a training run needs in order to continue as if it had not been stopped.

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
        return Checkpoint(**parts, facts=validated(CheckpointFacts, facts, str(path), REMEDY))

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
