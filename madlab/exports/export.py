"""Which export a file's name asks for."""

from pathlib import Path

from madlab.errors import MadlabError
from madlab.exports.deployable import deployable
from madlab.exports.onnx import write_onnx
from madlab.exports.peft import write_peft
from madlab.exports.program import write_program
from madlab.exports.weights import stock_of, write_weights
from madlab.network import MultiDomainNet

SUFFIXES = {
    ".onnx": "ONNX",
    ".pt2": "torch.export",
    ".safetensors": "the stock network's state_dict",
    ".peft": "a folder for PEFT",
}


def export_domain(
    net: MultiDomainNet, domain: str, path: Path | str, *, normalises: bool = False, source: str | None = None
) -> Path:
    """Write a trained domain in the format of the file's suffix (`SUFFIXES`); returns the path.

    normalises: put the normalisation inside, so that the network takes pixels from 0 to 1 (.onnx, .pt2). source: what
    `load_base` took to make the base, by which the stock network of .safetensors is found. Each export is read back
    and its logits compared with the merged network's before it comes to its place. Raises MadlabError for another
    suffix, a domain that the format cannot hold, and an export that does not agree.
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        kinds = ", ".join(f"{suffix} ({what})" for suffix, what in SUFFIXES.items())
        raise MadlabError(f"{path} does not say what to write: end its name in one of {kinds}.")
    if normalises and path.suffix not in (".onnx", ".pt2"):
        raise MadlabError(f"Only .onnx and .pt2 can hold the normalization, not {path.suffix}: leave it out.")
    if path.suffix in (".safetensors", ".peft") and net.view(domain).prompt is not None:
        raise MadlabError(f"Domain {domain!r} adapts its images, not the weights: export it as .onnx or .pt2.")
    own = deployable(net, domain, normalises)
    if path.suffix == ".onnx":
        write_onnx(own, path)
    elif path.suffix == ".pt2":
        write_program(own, path)
    elif path.suffix == ".safetensors":
        write_weights(own, stock_of(net, domain, source), path)
    else:
        write_peft(net, domain, own, path)
    return path
