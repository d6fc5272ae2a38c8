"""How good a finished run is, computed from its config and its adapter file alone."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn

from madlab.adapters import METHODS
from madlab.adapters.rounding import check_bits
from madlab.backbones import load_base
from madlab.benchmarks import load_domain
from madlab.benchmarks.domain import Domain, match_classes
from madlab.device import chosen_device
from madlab.errors import MadlabError
from madlab.facts import DomainFacts
from madlab.files.locks import hold
from madlab.hub import NotHere
from madlab.network import MultiDomainNet
from madlab.runs.config import RunConfig
from madlab.runs.epoch import crop_of, measure
from madlab.runs.folder import ADAPTER
from madlab.runs.marks import pack_correct
from madlab.runs.record import Result, Rounded, Run
from madlab.runs.training import network_to_evaluate
from madlab.sizes import ImageSize, image_size


@dataclass(frozen=True)
class Trained:
    """What a finished run trained, ready for inference.

    network: (B, 3, crop, crop) -> (B, classes), in eval mode on the device asked for. size: of the images that it was
    trained with. normalization: of pixels. class_names: in the order of the logits.
    """

    config: RunConfig
    network: nn.Module
    size: ImageSize
    normalization: dict[str, list[float]]
    class_names: list[str]

    def crop(self, side: int) -> int:
        """Side of the window, in pixels, of images whose short side is `side` pixels."""
        return crop_of(self.size, side, self.config.recipe)


def evaluate(
    run: Path | str,
    domain: Domain | None = None,
    base: nn.Module | Path | str | None = None,
    device: torch.device | str | None = None,
) -> float:
    """Test accuracy in percent of a finished run, from its config and its adapter file alone: `madlab evaluate`.

    domain: needed only where the run was given a Domain object. base: as in `restore`.
    Raises MadlabError for files that are absent or damaged, and for data whose classes are not those of the run.
    """
    config, where = RunConfig.read(run), chosen_device(device)
    if domain is None and config.source is None:
        raise MadlabError(f"The run {run} was trained on a Domain object: give that domain to evaluate.")
    trained = restore(run, base, where)
    domain = domain_of(trained, run, domain)
    crop = trained.crop(domain.size)
    return measure(trained.network, domain.test.to(where), trained.normalization, crop).accuracy


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
            net, name = _load(config, run, base)
            data = domain_of(_trained(config, net.to(where), name), run, domain).to(where)
            with TemporaryDirectory() as folder:
                found = {
                    str(b): _rounded(config, net, name, b, data, Path(folder) / f"{b}.safetensors") for b in missing
                }
            result = replace(result, rounded=result.rounded | found)
            result.write(run)
    return result


def _rounded(config: RunConfig, net: MultiDomainNet, name: str, bits: int, domain: Domain, file: Path) -> Rounded:
    net.save_domain(name, file, bits=bits, norms="folded")
    loaded = net.load_domain(file, name=f"{name} in {bits} bits")
    trained = _trained(config, net, loaded)
    val, test = (
        measure(trained.network, split, trained.normalization, trained.crop(domain.size))
        for split in (domain.val, domain.test)
    )
    stored = asdict(net.stored_bytes(name, bits, "folded"))
    net.remove_domain(loaded)
    validation = None if config.recipe.trainval else val.accuracy
    return Rounded(stored, validation, test.accuracy, pack_correct(test.correct.cpu()))


def domain_of(trained: Trained, run: Path | str, domain: Domain | None) -> Domain:
    """A run's domain, or the one given in its place, with its classes in the run's order."""
    if domain is None:
        assert trained.config.source is not None
        domain = load_domain(trained.config.source, size=trained.size.resize, flip=trained.config.flip)
    return match_classes(domain, trained.class_names, f"the run {run}")


def restore(run: Path | str, base: nn.Module | Path | str | None, device: torch.device) -> Trained:
    """What a finished run trained, from its config and its adapter file.

    base: the base network, or what `load_base` takes. It is needed where the run was given a network object, and where
    the network that the run names would have to be downloaded: a run folder may be a stranger's, so that nothing is
    downloaded at its word. Another network than the run's is refused either way.
    """
    config = RunConfig.read(run)
    net, name = _load(config, run, base)
    return _trained(config, net.to(device), name)


def _load(config: RunConfig, run: Path | str, base: nn.Module | Path | str | None) -> tuple[MultiDomainNet, str]:
    """The base network with the run's domain, and that domain's name."""
    network = base_of(config, run) if base is None else base if isinstance(base, nn.Module) else load_base(str(base))
    net = MultiDomainNet(network.to(memory_format=torch.channels_last))
    name = net.load_domain(Path(run) / ADAPTER)
    _check_adapter(config, net.view(name).facts, Path(run) / ADAPTER)
    return net, name


def _trained(config: RunConfig, net: MultiDomainNet, name: str) -> Trained:
    facts = net.view(name).facts
    # Domain files of madlab 0.1 do not say the size.
    size = ImageSize(facts.resize, facts.crop) if facts.resize and facts.crop else image_size(net.base)
    return Trained(config, network_to_evaluate(net, name), size, dict(facts.normalization), list(facts.class_names))


def _check_adapter(config: RunConfig, facts: DomainFacts, file: Path) -> None:
    """Raise MadlabError if an adapter file is not what a run of this config trains, as when it was copied there."""
    same = {
        "domain": config.domain == facts.name,
        "method": config.method == facts.method,
        "options": _with_defaults(config) == _with_defaults(facts),
        "head": config.head is None or config.head in facts.heads,
        "crop": facts.crop is None or config.recipe.crop in (None, facts.crop),
    }
    if differing := [name for name, alike in same.items() if not alike]:
        raise MadlabError(f"{file} is not of the run that its config.json asks for ({', '.join(differing)}): train it.")


def _with_defaults(one: RunConfig | DomainFacts) -> dict[str, Any]:
    given = {name: value for name, value in one.options.items() if value is not None}
    return dict(METHODS[one.method].options) | given if one.method in METHODS else given


def base_of(config: RunConfig, where: Path | str) -> nn.Module:
    """A config's base network; MadlabError if it would have to be downloaded.

    where: the run folder or file of the config, for the message.
    """
    source = config.base.source
    if source is None:
        raise MadlabError(f"The run {where} was trained on a network object: give that base network.")
    try:
        return load_base(source, download=False)
    except NotHere as error:
        raise MadlabError(
            f"The run {where} names the base network {source!r:.60}, which is not on this machine: to have it "
            "downloaded, name it yourself (--base NAME, or base=NAME)."
        ) from error
    except MadlabError as error:
        raise MadlabError(f"The run {where} cannot have its base network: {error}") from error
