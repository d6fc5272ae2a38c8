"""How good a finished run is, computed from its config and its adapter file alone."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import nn

from madlab.adapters.rounding import check_bits
from madlab.benchmarks import load_domain, split_digest
from madlab.benchmarks.domain import Domain, match_classes
from madlab.device import chosen_device
from madlab.errors import MadlabError
from madlab.files.locks import hold
from madlab.runs.config import RunConfig
from madlab.runs.epoch import Measured, measure
from madlab.runs.loaded import LoadedRun, load_run
from madlab.runs.marks import pack_correct
from madlab.runs.record import Result, Rounded, Run


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
    return tested(run, domain, base, device).accuracy


def tested(
    run: Path | str,
    domain: Domain | None = None,
    base: nn.Module | Path | str | None = None,
    device: torch.device | str | None = None,
) -> Measured:
    """As `evaluate`, with everything that is measured on the test images."""
    config, where = RunConfig.read(run), chosen_device(device)
    if domain is None and config.source is None:
        raise MadlabError(f"The run {run} was trained on a Domain object: give that domain to evaluate.")
    trained = load_run(run, base, where)
    domain = domain_of(trained, domain)
    crop = trained.crop(domain.size)
    return measure(trained.network, domain.test.to(where), trained.normalization, crop)


def round_run(
    run: Path | str,
    bits: Sequence[int] = (8, 4, 3, 2),
    domain: Domain | None = None,
    base: nn.Module | Path | str | None = None,
    device: torch.device | str | None = None,
) -> Result:
    """Store a finished run's domain in each of these numbers of bits, load it back, evaluate it, and record that.

    Nothing is trained, and the adapter file stays as it is: only `Result.rounded` of result.json changes, and what it
    holds already is not measured again. domain, base: as in `evaluate`. Returns the result. Raises MadlabError where
    `evaluate` does, for a run that is stored rounded already (`finish_bits`), and for a number of bits that cannot be.
    """
    config, where = RunConfig.read(run), chosen_device(device)
    if config.recipe.finish_bits is not None:
        raise MadlabError(
            f"The run {run} is stored in {config.recipe.finish_bits} bits already: round one that is not."
        )
    if domain is None and config.source is None:
        raise MadlabError(f"The run {run} was trained on a Domain object: give that domain to round it.")
    with hold(Path(run)):
        result = Run.read(run).result
        missing = [number for number in bits if str(check_bits(number)) not in result.rounded]
        if missing:
            trained = load_run(run, base, where)
            data = domain_of(trained, domain).to(where)
            with TemporaryDirectory() as folder:
                found = {str(b): _rounded(trained, b, data, Path(folder) / f"{b}.safetensors") for b in missing}
            result = replace(result, rounded=result.rounded | found)
            result.write(run)
    return result


def _rounded(trained: LoadedRun, bits: int, domain: Domain, file: Path) -> Rounded:
    net, name = trained.net, trained.domain
    net.save_domain(name, file, bits=bits, norms="folded")
    coarse = replace(trained, domain=net.load_domain(file, name=f"{name} in {bits} bits"))
    val, test = (
        measure(coarse.network, split, coarse.normalization, coarse.crop(domain.size))
        for split in (domain.val, domain.test)
    )
    stored = asdict(net.stored_bytes(name, bits, "folded"))
    net.remove_domain(coarse.domain)
    validation = None if trained.config.recipe.trainval else val.accuracy
    return Rounded(stored, validation, test.accuracy, pack_correct(test.correct.cpu()))


def domain_of(run: LoadedRun, domain: Domain | None = None) -> Domain:
    """A run's domain, or the one given in its place, with its classes in the run's order."""
    if domain is None:
        if run.config.source is None:
            raise MadlabError(f"The run {run.path} was trained on a Domain object: give that domain.")
        if run.config.split not in (None, split_digest(run.config.source)):
            raise MadlabError(
                f"The images of {run.config.source} were split anew since the run {run.path}, which may have trained "
                "on what are test images now: bring the old split file back, or train again."
            )
        domain = load_domain(run.config.source, size=run.size.resize, flip=run.config.flip)
    return match_classes(domain, run.class_names, f"the run {run.path}")
