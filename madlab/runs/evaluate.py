"""How good a finished run is, computed from its config and its adapter file alone."""

from pathlib import Path

import torch
from torch import nn

from madlab.benchmarks import load_domain
from madlab.benchmarks.domain import Domain, match_classes
from madlab.device import chosen_device
from madlab.errors import MadlabError
from madlab.runs.config import RunConfig
from madlab.runs.epoch import accuracy_and_loss
from madlab.runs.loaded import load_run


def evaluate(
    run: Path | str,
    domain: Domain | None = None,
    base: nn.Module | Path | str | None = None,
    device: torch.device | str | None = None,
) -> float:
    """Test accuracy in percent of a finished run, from its config and its adapter file alone: `madlab evaluate`.

    domain: needed only where the run was given a Domain object. base: as in `load_run`.
    Raises MadlabError for files that are absent or damaged, and for data whose classes are not those of the run.
    """
    config, where = RunConfig.read(run), chosen_device(device)
    if domain is None and config.source is None:
        raise MadlabError(f"The run {run} was trained on a Domain object: give that domain to evaluate.")
    trained = load_run(run, base, where)
    if domain is None:
        assert config.source is not None
        domain = load_domain(config.source, size=trained.size.resize, flip=config.flip)
    domain = match_classes(domain, trained.class_names, f"the run {run}")
    crop = trained.crop(domain.size)
    return accuracy_and_loss(trained.network, domain.test.to(where), trained.normalization, crop)[0]
