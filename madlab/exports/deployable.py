"""What leaves madlab: one domain as a plain network, and the check that every export has to pass."""

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from madlab.adapters.layer import rebuild
from madlab.benchmarks.walk import hidden
from madlab.errors import MadlabError
from madlab.facts import DomainFacts
from madlab.files.plain import check_writable, read_bytes, write_bytes
from madlab.network import MultiDomainNet
from madlab.prediction import prepared_size
from madlab.sizes import name_of

TOLERANCE = 1e-4
"""By how much a logit may differ, as a share of the largest one: other libraries add float32 in another order."""
BATCHES = (1, 3)
"""Images in the batches that are compared: two sizes, so that a batch dimension that is fixed shows."""
LONGEST = 2**20
"""Bytes of the file by which a folder is known."""


class Normalised(nn.Module):
    """A network behind its own normalisation: images float (B, C, H, W) with pixels from 0 to 1 -> logits."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, normalization: dict[str, list[float]]):
        super().__init__()
        self.network = network
        for key in ("mean", "std"):
            self.register_buffer(key, torch.tensor(normalization[key]).view(-1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        return self.network((images - self.mean) / self.std)


@dataclass(frozen=True)
class Deployable:
    """One domain as a plain network.

    network: float32 (B, channels, side, side) -> logits (B, classes), in eval mode on the CPU. facts: of its domain.
    normalises: whether it takes pixels from 0 to 1 and normalises them itself. base: the base network's name.
    """

    network: nn.Module
    facts: DomainFacts
    channels: int
    resize: int
    side: int
    normalises: bool
    base: str

    def images(self, count: int) -> Tensor:
        """Made-up images (count, channels, side, side) of the kind that the network takes, always the same."""
        shape, generator = (count, self.channels, self.side, self.side), torch.Generator().manual_seed(count)
        return (torch.rand if self.normalises else torch.randn)(shape, generator=generator)

    def about(self) -> dict[str, Any]:
        """What whoever runs the export has to know."""
        expected = "RGB, pixels from 0 to 1" if self.normalises else "RGB, pixels from 0 to 1, then normalised"
        own = {"class_names": self.facts.class_names, "normalization": self.facts.normalization}
        told = {"domain": self.facts.name, "method": self.facts.method, "base": self.base, "input": expected}
        sizes = {"resize": self.resize, "crop": self.side} | ({"squash": True} if self.facts.squash else {})
        grey = {"grey": dict(self.facts.grey)} if self.facts.grey else {}  # of more than 8 bits: what is black, white
        return told | own | sizes | grey

    def metadata(self) -> dict[str, str]:
        """The same as texts; numbers, lists and mappings are JSON."""
        about = self.about().items()
        return {k: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) for k, value in about}

    @torch.no_grad()
    def check(self, answer: Callable[[Tensor], Tensor], what: str) -> None:
        """Raise MadlabError unless `answer`, images -> logits, agrees with the network; what: the export's name."""
        for count in BATCHES:
            images = self.images(count)
            expected = self.network(images.clone())  # which it may change in place
            if not expected.isfinite().all():  # as the logarithm of what is negative
                images = images.abs()
                expected = self.network(images.clone())
            got = answer(images)
            if got.shape != expected.shape:
                raise MadlabError(
                    f"{what} answers {count} images with logits of shape {tuple(got.shape)}, not "
                    f"{tuple(expected.shape)}, so it was not written: choose another format."
                )
            off, most = (got - expected).abs().max().item(), max(expected.abs().max().item(), 1.0)
            if not off <= TOLERANCE * most:  # NaN, too
                raise MadlabError(
                    f"The logits of {what} differ from the merged network's by {off:.2g}, so it was not written: "
                    "choose another format."
                )


def deployable(net: MultiDomainNet, domain: str, normalises: bool = False) -> Deployable:
    """A domain as a plain network, merged where it can be; a prompt stands before the network.

    normalises: put the domain's normalisation inside, so that the network takes pixels from 0 to 1.
    Raises MadlabError where the normalisation is wanted and not known.
    """
    view = net.view(domain)
    # A copy where nothing is merged: what follows changes format and mode, and the base's tensors are everybody's.
    network = net.merge(domain) if view.prompt is None else rebuild(nn.Sequential(view.prompt, view.network), {})
    network.eval()
    network = network.to("cpu", torch.float32).to(memory_format=torch.contiguous_format)
    if normalises:
        if not view.facts.normalization:
            raise MadlabError(f"Domain {domain!r} does not know its normalization: export it without.")
        network = Normalised(network, view.facts.normalization)
    size, name = prepared_size(view), name_of(net.base)
    return Deployable(network, view.facts, view.channels, size.resize, size.crop, normalises, name)


def refuse_to_replace(path: Path, is_export: Callable[[Path], bool]) -> None:
    """Raise MadlabError unless a path is free or holds an export: a base or an adapter nobody could make again.

    is_export: whether a file is one; whatever it raises means that it is not.
    """
    if not os.path.lexists(path):
        return
    try:
        ours = is_export(path)
    except Exception:  # other libraries' readers raise nearly anything for what is not theirs
        ours = False
    if not ours:
        raise MadlabError(f"{path} is not an export of madlab's, and is not replaced: choose another name.")


@contextmanager
def staged(path: Path) -> Iterator[Path]:
    """A file elsewhere, to write and check; it comes to `path` when the block ends without an error, and never else."""
    check_writable(path)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / path.name
        yield place
        write_bytes(path, place.read_bytes())


@contextmanager
def staged_folder(path: Path, mark: str, says: str) -> Iterator[Path]:
    """As `staged`, for a folder of plain files.

    mark: the file by which a folder of this kind is known, and `says` a text in it; what is neither empty nor of this
    kind is not written into.
    """
    if os.path.lexists(path) and not path.is_dir():
        raise MadlabError(f"{path} is not a folder: choose another name.")
    ours = (path / mark).is_file() and says.encode() in read_bytes(path / mark, LONGEST)
    if path.is_dir() and not all(map(hidden, os.listdir(path))) and not ours:
        raise MadlabError(f"The folder {path} holds something else: choose another name, or empty it.")
    check_writable(path / mark)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        yield place
        # What it is known by comes first: if the copying is interrupted, the same command goes on.
        for file in sorted(place.iterdir(), key=lambda file: file.name != mark):
            write_bytes(path / file.name, file.read_bytes())
