"""How good a finished run is, computed from its config and its adapter file alone."""

import os
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import nn

from madlab.adapters.rounding import check_bits
from madlab.benchmarks import is_name, load_domain, source_of, split_digest
from madlab.benchmarks.domain import Domain, match_classes, with_validation
from madlab.benchmarks.walk import SPLIT_FILE
from madlab.device import chosen_device
from madlab.errors import MadlabError, remark
from madlab.files.locks import hold
from madlab.runs.config import RunConfig, check_run_folder
from madlab.runs.epoch import Measured
from madlab.runs.folder import check_same_split
from madlab.runs.loaded import LoadedRun, load_run
from madlab.runs.recalibrate import round_domain
from madlab.runs.record import RESULT, Result, Rounded, Run, pack_correct


def evaluate(
    run: Path | str,
    domain: Domain | Path | str | None = None,
    base: nn.Module | Path | str | None = None,
    device: torch.device | str | None = None,
) -> float:
    """Test accuracy in percent of a finished run, from its config and its adapter file alone: `madlab evaluate`.

    domain: the images, as in `domain_of`. base: as in `load_run`.
    Raises MadlabError for files that are absent or damaged, and for data whose classes are not those of the run.
    """
    return tested(run, domain, base, device).accuracy


def tested(
    run: Path | str,
    domain: Domain | Path | str | None = None,
    base: nn.Module | Path | str | None = None,
    device: torch.device | str | None = None,
) -> Measured:
    """As `evaluate`, with everything that is measured on the test images."""
    check_data(run, domain)
    trained = load_run(run, base, device)
    data = domain_of(trained, domain)
    test = data.test.to(chosen_device(device))
    return trained.measure(test, trained.crop(data.size))


def round_run(
    run: Path | str,
    bits: Sequence[int] = (8, 4, 3, 2),
    domain: Domain | None = None,
    base: nn.Module | Path | str | None = None,
    device: torch.device | str | None = None,
) -> Result:
    """Store a finished run's domain in each of these numbers of bits, load it back, evaluate it, and record that.

    Nothing is trained but BatchNorm's statistics, which are measured anew on the training images (`round_domain`), and
    the adapter file stays as it is: only `Result.rounded` of result.json changes, and what it holds already is not
    measured again. domain, base: as in `evaluate`. Returns the result. Raises MadlabError where `evaluate` does, for a
    run that is stored rounded already (`finish_bits`), and for a number of bits that cannot be.
    """
    config, where = RunConfig.read(run), chosen_device(device)
    if config.recipe.finish_bits is not None:
        raise MadlabError(
            f"The run {run} is stored in {config.recipe.finish_bits} bits already: round one that is not."
        )
    check_data(run, domain)
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


def _rounded(run: LoadedRun, bits: int, domain: Domain, file: Path) -> Rounded:
    name, recipe = f"{run.domain} in {bits} bits", run.config.recipe
    trained_on = with_validation(domain) if recipe.trainval else domain
    round_domain(
        run.net,
        run.domain,
        name,
        bits,
        trained_on,
        run.crop(domain.size),
        recipe.batch_size,
        recipe.seed,
        recipe.moves,
    )
    run.net.save_domain(name, file, bits=bits, norms="folded")
    stored = asdict(run.net.stored_bytes(name, bits, "folded"))
    run.net.remove_domain(name)
    loaded = replace(run, domain=run.net.load_domain(file, name=name))
    val, test = (loaded.measure(split, loaded.crop(domain.size)) for split in (domain.val, domain.test))
    run.net.remove_domain(name)
    validation = None if run.config.recipe.trainval else val.accuracy
    return Rounded(stored, validation, test.accuracy, pack_correct(test.correct.cpu()))


def check_data(run: Path | str, domain: Domain | Path | str | None) -> None:
    """Raise MadlabError if the images of a run have to be given and were not, before anything else is read."""
    check_run_folder(run)
    source = RunConfig.read(run).source
    if domain is None and source is None:
        raise MadlabError(
            f"The run {run} does not say where its images are: give them (--domain FOLDER, or domain=...)."
        )
    if domain is None and source is not None and not is_name(source) and not os.path.exists(source):
        raise MadlabError(
            f"The images of the run {run} are not in {source}{_seen_from(source)}: say where they are (--domain "
            "FOLDER, or domain=...)."
        )


def domain_of(run: LoadedRun, domain: Domain | Path | str | None) -> Domain:
    """The images of a run, with its classes in the run's order.

    domain: others in their place, or the same from elsewhere: a Domain, or what `load_domain` takes.
    """
    source, asked = None, domain
    if not isinstance(domain, Domain):
        source = source_of(domain) if domain is not None else None
        if source is None or _is_own(run, source):
            source = _own_images(run)
        else:
            _warn_of_another_split(run, source)
        facts = run.facts
        domain = load_domain(source, run.size.resize, run.config.flip, facts.grey_scale, facts.squash)
    if side := run.facts.resize:  # files of madlab 0.1 have none
        if domain.size < side:
            raise MadlabError(
                f"The images of {domain.name!r} have {domain.size} pixels, and the run {run.path} was trained on "
                f"{side}: give larger ones."
            )
        domain = domain.shrunk(side)
    domain = match_classes(domain, run.class_names, f"the run {run.path}")
    finished = (run.path / RESULT).exists()  # config and adapter alone will do
    if source and _is_own(run, source) and finished and run.result.test_sha256 not in ("", domain.test.sha256()):
        told = f"The test images of {source} are not, to the last bit, those that the run {run.path} was tested on"
        if asked is None and _seen_from(source):  # another folder of that name, perhaps
            raise MadlabError(f"{told}, {_seen_from(source, '')}: say where they are (--domain FOLDER, or domain=...).")
        remark(f"{told}: if images moved between its parts, it may have been trained on some of these.")
    return domain


def _seen_from(source: str, comma: str = ", ") -> str:
    """From where a path is seen that does not begin at the root; "" for others."""
    return "" if is_name(source) or os.path.isabs(source) else f"{comma}seen from {os.getcwd()}"


def _is_own(run: LoadedRun, source: str) -> bool:
    """Whether the images of a source, as `source_of` writes it, are those that a run was trained on."""
    own = run.config.source
    if own is None or is_name(own) or is_name(source):
        return own == source
    return os.path.realpath(own) == os.path.realpath(source)


def _warn_of_another_split(run: LoadedRun, source: str) -> None:
    if run.config.split is not None and split_digest(source) not in (None, run.config.split):
        remark(
            f"The images of {source} were split in another way than those of the run {run.path}: if they are the same "
            f"images, it was trained on some that are test images here; copy its {SPLIT_FILE} there then."
        )


def _own_images(run: LoadedRun) -> str:
    """Where the images are that a run was trained on; MadlabError if they have been split anew since."""
    assert run.config.source is not None
    check_same_split(run.config, run.path)
    return run.config.source
