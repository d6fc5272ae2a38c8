"""What a run folder says about how its training went, in a few numbers."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, cast

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import nn

from madlab.adapters import METHODS
from madlab.adapters.base import join_method
from madlab.analysis.diagnosis.change import (
    batchnorm_change,
    filter_change,
    filter_turn,
    has_statistics_of_base,
    head_growth,
)
from madlab.errors import MadlabError
from madlab.files.plain import read_bytes
from madlab.files.schemas import STRICT, Whole
from madlab.guard import fingerprint
from madlab.network import MultiDomainNet
from madlab.runs.config import CONFIG, RunConfig, check_run_folder
from madlab.runs.epoch import crop_of
from madlab.runs.folder import ADAPTER, CHECKPOINT, FAILURE, Checkpoint
from madlab.runs.loaded import load_run, network_of
from madlab.runs.rates import peak_rates
from madlab.runs.recipe import Recipe
from madlab.runs.record import METRICS, RESULT, Epoch, Result, best_epoch, read_log
from madlab.sizes import image_size
from madlab.view import DomainView

CEILING = {"piggyback": math.sqrt(0.5)}
"""The turn of a method that cannot reach 1: a mask drawn with a coin leaves every filter a cosine of sqrt(1/2)."""
LONGEST = 2**20
"""Bytes of a failure that are read."""


@dataclass(frozen=True, config=STRICT)
class Evidence:
    """The numbers of one run that a diagnosis rests on. The test images are not among them."""

    path: str
    """The run folder."""
    config: RunConfig
    log: tuple[Epoch, ...]
    finished: bool
    rates: dict[str, float]
    """Peak learning rates of "adapter", "batchnorm" and "head", which the run had, whatever its method has today."""
    own_rates: dict[str, float]
    """Those that the method has by itself."""
    lowered: dict[str, float] = Field(default_factory=dict)
    """Layers whose scale counts -> what the rate of their filters was multiplied by, as in `Result.filter_factors`."""
    failure: str = ""
    """What ended the run early, in a line; "" if nothing is known."""
    crashed: bool = False
    """Whether that was an error of the program, which says nothing about the training."""
    classes: Annotated[Whole, Field(ge=2)] | None = None
    """How many the domain has. It is None, like all that follows, where the folder holds nothing trained."""
    turn: Annotated[float, Field(ge=0)] | None = None
    """`filter_turn`, as a share of what the method can reach; None where the method leaves the filters."""
    change: Annotated[float, Field(ge=0)] | None = None
    """`filter_change`, which is told and decides nothing, as most of it can be scale that BatchNorm hides."""
    head: float | None = None
    """`head_growth`."""
    batchnorm: float | None = None
    """`batchnorm_change`; None where the method does not learn it."""
    fitted: bool = False
    """Whether the run fitted a head to features that stand still: its epochs are weight decays, each to convergence."""
    stale: bool = False
    """Whether BatchNorm still has the base's running averages, which the domain should have measured anew."""

    @property
    def method(self) -> str:
        """As it is written for the command line, "mad:8" for MAD of rank 8."""
        if isinstance(self.rank, Mapping):
            return f"{self.config.method} with a rank for each layer"
        return join_method(self.config.method, self.config.rank)

    @property
    def rank(self) -> float | Mapping[str, int]:
        """What limits the adapter, infinite where nothing does, as in MAD's full form."""
        rank: Any = self.config.options.get("rank", METHODS[self.config.method].options.get("rank"))
        return math.inf if rank is None else rank

    @property
    def fastest(self) -> str:
        """The kind of parameters, "adapter", "batchnorm" or "head", whose rate is highest beside the method's own."""
        return max(self.rates, key=lambda kind: self.rates[kind] / self.own_rates[kind] if self.own_rates[kind] else 0)

    @property
    def best(self) -> Epoch:
        """The epoch whose adapter is kept: of those that may be, that of the highest validation accuracy."""
        kept = [entry for entry in self.log if self.fitted or self.config.recipe.may_keep(entry.epoch - 1)]
        return best_epoch(kept or self.log)  # of an unfinished run none may have been rounded yet

    @property
    def reached(self) -> float:
        """The highest validation accuracy, in percent."""
        return _known(self.best.val_accuracy)

    @property
    def chance(self) -> float:
        """Nats of loss of a network that knows nothing: ln of the number of classes."""
        return math.log(self.classes or 2)

    @property
    def misfit(self) -> float:
        """Nats of the last epoch's training loss above the least that label smoothing allows."""
        return self._last.train_loss - self.least(smoothed=True)

    @property
    def gap(self) -> float:
        """Nats by which validation is worse than training, each above what a perfect fit to smoothed labels has."""
        return _known(self._last.val_loss) - self.least(smoothed=False) - self.misfit

    @property
    def _last(self) -> Epoch:
        """Where the training ended up; of heads fitted with several decays the one that is kept."""
        return self.best if self.fitted else self.log[-1]

    @property
    def peak(self) -> float:
        """The largest validation loss of any epoch, in multiples of `chance`."""
        return max(_known(epoch.val_loss) for epoch in self.log) / self.chance

    @property
    def loudest(self) -> float:
        """The largest training loss of any epoch, in multiples of `chance`."""
        return max(epoch.train_loss for epoch in self.log) / self.chance

    def least(self, smoothed: bool) -> float:
        """The lowest loss that logits trained on smoothed labels can have on these (as in training), or on plain ones.

        The best logits give the right class 1 - s + s / C and each other one s / C (Szegedy et al., arXiv 1512.00567).
        """
        smoothing, classes = self.config.recipe.smoothing, self.classes or 2
        right, other = 1 - smoothing + smoothing / classes, smoothing / classes
        if not (smoothed and other):
            return -math.log(right)
        return -right * math.log(right) - (classes - 1) * other * math.log(other)


def gather(run: Path | str, base: nn.Module | Path | str | None = None) -> Evidence:
    """The evidence of a run folder, finished or not; nothing is trained and no image is read.

    base: as in `load_run`, needed where the run was given a network object or one that had to be downloaded.
    Raises MadlabError for a folder that is no run, or whose files are absent where they should be or damaged.
    """
    folder = Path(run)
    check_run_folder(folder)
    config, log, finished = RunConfig.read(folder), read_log(folder), (folder / RESULT).exists()
    if config.method not in METHODS:
        raise MadlabError(f"The run {folder} has the unknown method {config.method!r:.60}: correct its {CONFIG}.")
    if config.recipe.trainval:
        raise MadlabError(
            f"The run {folder} was trained on its validation images too, so there is nothing to diagnose it by: "
            "diagnose the run whose epochs it repeats."
        )
    rates, lowered = _recorded(folder, finished)
    if finished:
        for file, lost in ((METRICS, "how its loss went"), (ADAPTER, "what it trained")):
            if not (folder / file).exists() or (file == METRICS and not log):
                raise MadlabError(f"The run {folder} is finished but has no {file}, so nobody knows {lost}: repeat it.")
    method, options = METHODS[config.method], config.options
    facts: dict[str, Any] = {
        "rates": rates if any(rates.values()) else peak_rates(method, options, config.recipe),
        "own_rates": peak_rates(method, options, Recipe()),
        "lowered": lowered,
        # L-BFGS has no rates (runs.probe).
        "fitted": not any(rates.values()) if rates else config.method == "frozen",
    }
    lines = _failure(folder)
    facts |= {"failure": lines[-1] if lines else "", "crashed": len(lines) > 1} | _trained(folder, config, base)
    return Evidence(str(folder), config, log, finished, **facts)


def _recorded(folder: Path, finished: bool) -> tuple[dict[str, float], dict[str, float]]:
    """The rates that a run had, and what those of its filters were multiplied by; {} where no file says so."""
    if finished:
        result = Result.read(folder)
        return result.rates, result.filter_factors
    if not (folder / CHECKPOINT).exists():
        return {}, {}
    facts = Checkpoint.read(folder / CHECKPOINT, torch.device("cpu")).facts
    return facts.rates, facts.filter_factors


def _failure(folder: Path) -> list[str]:
    """The lines of what a failed run left: Diverged's one sentence, or a traceback with the error at its end."""
    if not (folder / FAILURE).exists():
        return []
    return read_bytes(folder / FAILURE, LONGEST).decode(errors="replace").strip().splitlines()


def _trained(folder: Path, config: RunConfig, base: nn.Module | Path | str | None) -> dict[str, Any]:
    """What the adapter file, or the checkpoint of an unfinished run, shows; {} without either."""
    if not any((folder / file).exists() for file in (ADAPTER, CHECKPOINT)):
        return {}
    network = network_of(base, config, folder)
    if fingerprint(network) != config.base.sha256:
        raise MadlabError(f"The run {folder} was trained on another base network ({config.base.name}): give that one.")
    view = _view(folder, config, network)
    adapts = bool(view.adapted_layers())
    return {
        "classes": view.facts.num_classes,
        "turn": filter_turn(view) / CEILING.get(config.method, 1.0) if adapts else None,
        "change": filter_change(view) if adapts else None,
        "head": head_growth(view),
        "batchnorm": batchnorm_change(view, network),
        "stale": has_statistics_of_base(view, network),
    }


def _view(folder: Path, config: RunConfig, network: nn.Module) -> DomainView:
    if (folder / ADAPTER).exists():
        run = load_run(folder, network, next(network.parameters()).device)  # where the caller has it
        return run.net.view(run.domain)
    net = MultiDomainNet(network)
    checkpoint = Checkpoint.read(folder / CHECKPOINT, torch.device("cpu"))
    names, options = checkpoint.facts.class_names, cast(dict[str, Any], config.options)
    size = image_size(network)
    resize = config.recipe.size or size.resize
    seen: dict[str, Any] = {"resize": resize, "crop": crop_of(size, resize, config.recipe)}
    net.add_domain(config.domain, len(names), config.method, layers=config.layers, head=config.head, **seen, **options)
    view = net.view(config.domain)
    try:
        view.load_own_state(checkpoint.state)
    except MadlabError as error:
        raise MadlabError(f"The checkpoint of {folder} is not of the run that its config describes: {error}") from error
    return view


def _known(value: float | None) -> float:
    """A validated value: `gather` refuses runs without validation."""
    assert value is not None
    return value
