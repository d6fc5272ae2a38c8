"""A finished run as it is on disk, ready for inference: `madlab.load_run`."""

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import nn

from madlab.backbones import load_base
from madlab.benchmarks.split import Split
from madlab.device import chosen_device
from madlab.errors import MadlabError
from madlab.facts import DomainFacts, with_defaults
from madlab.hub import NotHere
from madlab.network import MultiDomainNet
from madlab.prediction import Guess, Picture, prepared_size
from madlab.runs.config import RunConfig, check_run_folder
from madlab.runs.epoch import Measured, crop_of, measure
from madlab.runs.folder import ADAPTER
from madlab.runs.record import RESULT, Epoch, Result, read_log
from madlab.runs.training import network_to_evaluate
from madlab.sizes import ImageSize


@dataclass(frozen=True)
class LoadedRun:
    """What a finished run trained, on the device asked for.

    path: the run folder. net: the base network with the run's domain, and nothing else. domain: the domain's name.
    """

    path: Path
    config: RunConfig
    net: MultiDomainNet
    domain: str

    @property
    def facts(self) -> DomainFacts:
        """What the adapter file says besides its tensors: classes, method, how images are prepared."""
        return self.net.view(self.domain).facts

    @property
    def class_names(self) -> list[str]:
        """In the order of the logits."""
        return list(self.facts.class_names)

    @property
    def normalization(self) -> dict[str, list[float]]:
        """{"mean": [r, g, b], "std": [r, g, b]} of pixels scaled to 0..1."""
        return dict(self.facts.normalization)

    @property
    def size(self) -> ImageSize:
        """The size of the images that the run was trained with."""
        return prepared_size(self.net.view(self.domain))

    @cached_property
    def network(self) -> nn.Module:
        """(B, 3, crop, crop) -> (B, classes), in eval mode, merged where the method can be."""
        return network_to_evaluate(self.net, self.domain)

    @cached_property
    def result(self) -> Result:
        """What the run reported; MadlabError if it has not finished."""
        return Result.read(self.path)

    @cached_property
    def log(self) -> tuple[Epoch, ...]:
        """One entry per epoch."""
        return read_log(self.path)

    def crop(self, side: int) -> int:
        """Side of the window, in pixels, of images whose short side is `side` pixels."""
        return crop_of(self.size, side, self.config.recipe)

    def measure(self, split: Split, crop: int) -> Measured:
        """What the network does on a split of images, in windows of `crop` pixels."""
        return measure(self.network, split, self.normalization, crop, self.config.recipe.at_once)

    def predict(self, images: Picture | list[Picture], top: int = 3) -> list[list[Guess]]:
        """The most probable classes of pictures, as `MultiDomainNet.predict` takes them and returns them."""
        return self.net.predict(images, self.domain, top)


def load_run(
    run: Path | str, base: nn.Module | Path | str | None = None, device: torch.device | str | None = None
) -> LoadedRun:
    """What a finished run trained, from its config and its adapter file alone.

        run = madlab.load_run("runs/x")
        run.predict(["cat.jpg"], top=1)     # [[Guess(name='cat', probability=0.93)]]

    base: the base network, or what `load_base` takes. It is needed where the run was given a network object, and where
    the network that the run names would have to be downloaded: a run folder may be a stranger's, so that nothing is
    downloaded at its word. Another network than the run's is refused either way. device: the GPU if there is one.
    Raises MadlabError for files that are absent or damaged.
    """
    check_run_folder(run)
    config, where = RunConfig.read(run), chosen_device(device)
    if not os.path.lexists(Path(run) / ADAPTER):
        check_finished(run)
    net = MultiDomainNet(network_of(base, config, run))
    name = net.load_domain(Path(run) / ADAPTER)
    _check_adapter(config, net.view(name).facts, Path(run) / ADAPTER)
    return LoadedRun(Path(run), config, net.to(where), name)


def check_finished(run: Path | str) -> None:
    """Raise MadlabError for what holds no run, or one that has not finished."""
    check_run_folder(run)
    RunConfig.read(run)
    if not (Path(run) / RESULT).exists():
        raise MadlabError(f"The run {run} has not finished: go on with it first (madlab train --resume).")


def _check_adapter(config: RunConfig, facts: DomainFacts, file: Path) -> None:
    """Raise MadlabError if an adapter file is not what a run of this config trains, as when it was copied there."""
    same = {
        "domain": config.domain == facts.name,
        "method": config.method == facts.method,
        "options": with_defaults(facts.method, config.options) == with_defaults(facts.method, facts.options),
        "head": config.head is None or config.head in facts.heads,
        "crop": facts.crop is None or config.recipe.crop in (None, facts.crop),
    }
    if differing := [name for name, alike in same.items() if not alike]:
        raise MadlabError(f"{file} is not of the run that its config.json asks for ({', '.join(differing)}): train it.")


def network_of(base: nn.Module | Path | str | None, config: RunConfig, where: Path | str) -> nn.Module:
    """The base network that was given, or what `load_base` makes of a name; without one, the config's (`base_of`)."""
    if base is None:
        return base_of(config, where)
    return base if isinstance(base, nn.Module) else load_base(str(base))


def base_of(config: RunConfig, where: Path | str) -> nn.Module:
    """A config's base network; MadlabError if it would have to be downloaded.

    where: the run folder or file of the config, for the message.
    """
    source = config.base.source
    if source is None:
        raise MadlabError(
            f"The run {where} does not say where its base network {config.base.name or '(which has no name)'} is: give "
            "it (--base FILE, or base=...)."
        )
    try:
        return load_base(source, download=False)
    except NotHere as error:
        raise MadlabError(
            f"The run {where} names the base network {source!r:.60}, which is not on this machine: to have it "
            "downloaded, name it yourself (--base NAME, or base=NAME)."
        ) from error
    except MadlabError as error:
        raise MadlabError(f"The run {where} cannot have its base network: {error}") from error
