"""Which export a file's name asks for."""

from pathlib import Path

from torch import nn

from madlab.errors import MadlabError
from madlab.exports.deployable import deployable
from madlab.exports.peft import MERGE_FIRST, write_peft
from madlab.exports.program import write_onnx, write_program
from madlab.exports.weights import stock_of, write_weights
from madlab.network import MultiDomainNet
from madlab.runs.loaded import check_finished, load_run

SUFFIXES = {
    ".onnx": "ONNX",
    ".pt2": "torch.export",
    ".safetensors": "the stock network's state_dict",
    ".peft": "a folder for PEFT",
}


def export_run(
    run: Path | str, path: Path | str, *, normalises: bool = False, base: nn.Module | Path | str | None = None
) -> str:
    """Write a finished run's network in the format of the file's suffix; returns a sentence on what it takes.

    base: as in `load_run`. The rest is as in `export_domain`.
    """
    check_suffix(path, normalises)
    check_finished(run)
    loaded = load_run(run, base, "cpu")
    source = base if isinstance(base, str | Path) else loaded.config.base.source
    return export_domain(
        loaded.net, loaded.domain, path, normalises=normalises, source=None if source is None else str(source)
    )


def export_domain(
    net: MultiDomainNet, domain: str, path: Path | str, *, normalises: bool = False, source: str | None = None
) -> str:
    """Write a trained domain in the format of the file's suffix (`SUFFIXES`); returns a sentence on what it takes.

    normalises: put the normalisation inside, so that the network takes pixels from 0 to 1 (.onnx, .pt2). source: what
    `load_base` took to make the base, by which the stock network of .safetensors is found. Each export is read back
    and its logits compared with the merged network's before it comes to its place. Raises MadlabError for another
    suffix, a domain that the format cannot hold, and an export that does not agree.
    """
    path = Path(path)
    check_suffix(path, normalises)
    if path.suffix in (".safetensors", ".peft") and net.view(domain).prompt is not None:
        raise MadlabError(f"Domain {domain!r} adapts its images, not the weights: export it as .onnx or .pt2.")
    own = deployable(net, domain, normalises)
    if path.suffix == ".onnx":
        write_onnx(own, path)
    elif path.suffix == ".pt2":
        write_program(own, path)
    elif path.suffix == ".safetensors":
        stock = stock_of(net, domain, source)
        write_weights(own, stock, path)
        return f"{path} answers like the merged network; it loads into {stock.call}."
    else:
        write_peft(net, domain, own, path)
        first = ", and is right after merge_and_unload()" if own.facts.method in MERGE_FIRST else ""
        return f"{path} answers like the merged network; PEFT loads it onto the base with a new head{first}."
    pixels = "pixels from 0 to 1" if normalises else "normalised pixels"
    shape = f"(batch, {own.channels}, {own.side}, {own.side})"
    return f"{path} answers like the merged network; it takes float32 images {shape}, {pixels}."


def check_suffix(path: Path | str, normalises: bool) -> None:
    """Raise MadlabError for a name that asks for no format, or for one that cannot hold the normalisation."""
    path = Path(path)
    if path.suffix not in SUFFIXES:
        kinds = ", ".join(f"{suffix} ({what})" for suffix, what in SUFFIXES.items())
        raise MadlabError(f"{path} does not say what to write: end its name in one of {kinds}.")
    if normalises and path.suffix not in (".onnx", ".pt2"):
        raise MadlabError(f"Only .onnx and .pt2 can hold the normalization, not {path.suffix}: leave it out.")
