"""The data sets of both benchmarks that torchvision can download, in the Decathlon's shape: squares of 72 pixels.

They are the originals, not the Decathlon's files: where it has splits of its own making, ours are drawn by a seed, so
accuracies are near to published ones but do not compare with them. torchvision checks each download by the checksum
that it knows, FGVC-Aircraft excepted, for which it has none; what is checked here are the numbers of images.
"""

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from madlab.benchmarks import fetch, packed, packing
from madlab.benchmarks.domain import Domain
from madlab.benchmarks.protocol import DomainProtocol, Protocol
from madlab.benchmarks.split import SPLITS
from madlab.errors import MadlabError, reason
from madlab.files.pictures import square_of
from madlab.files.plain import write_bytes

Samples = Sequence[tuple[Image.Image, int]]
"""A torchvision data set: (image, label) by number."""


@dataclass(frozen=True)
class Source:
    """One data set. megabytes: size of the download; licence: as its authors state it, to be read before use.

    read: downloads into a folder, and returns the official splits by name, of "train", "val" and "test".
    shares: which part of a split becomes another one, for splits that nobody made: {"val": ("train", 0.2)}.
    groups: for the samples of a split, what they show, if several show the same object and have to stay together.
    """

    protocol: DomainProtocol
    megabytes: int
    licence: str
    read: Callable[[Path], Mapping[str, Samples]]
    shares: Mapping[str, tuple[str, float]]
    groups: Callable[[Samples], list[str]] | None = None


def _aircraft(folder: Path) -> Mapping[str, Samples]:
    from torchvision.datasets import FGVCAircraft

    return {split: FGVCAircraft(folder, split, "variant", download=True) for split in SPLITS}


def _cifar100(folder: Path) -> Mapping[str, Samples]:
    """The binary version, because torchvision's reader unpickles, which madlab never does."""
    from torchvision.datasets.utils import download_and_extract_archive

    url, md5 = "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz", "03b5dce01913d631647c71ecec9e9cb8"
    download_and_extract_archive(url, folder, md5=md5)
    return {split: read_cifar100(folder / "cifar-100-binary" / f"{split}.bin") for split in ("train", "test")}


def read_cifar100(path: Path) -> Samples:
    """Records of 2 + 3072 bytes: coarse label, fine label, and the red, green and blue plane of 32 x 32 pixels."""
    records = np.fromfile(path, np.uint8).reshape(-1, 3074)
    pixels = records[:, 2:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return [(Image.fromarray(image), int(label)) for image, label in zip(pixels, records[:, 1], strict=True)]


def _dtd(folder: Path) -> Mapping[str, Samples]:
    from torchvision.datasets import DTD

    return {split: DTD(folder, split, partition=1, download=True) for split in SPLITS}


def _gtsrb(folder: Path) -> Mapping[str, Samples]:
    from torchvision.datasets import GTSRB

    return {split: GTSRB(folder, split, download=True) for split in ("train", "test")}


def _tracks(signs: Any) -> list[str]:
    """GTSRB filmed each sign some thirty times while driving by: 00003_00017.ppm is picture 17 of track 3."""
    return [f"{label}/{Path(path).name.split('_')[0]}" for path, label in signs._samples]


def _omniglot(folder: Path) -> Mapping[str, Samples]:
    """Both sets of alphabets, white on black as in the Decathlon; all goes to train first, and is drawn from there."""
    from torchvision.datasets import Omniglot

    background = Omniglot(folder, background=True, download=True)
    evaluation = Omniglot(folder, background=False, download=True)
    first = len(background._characters)
    glyphs = [(ImageOps.invert(image), label) for image, label in background]
    return {"train": glyphs + [(ImageOps.invert(image), first + label) for image, label in evaluation]}


def _svhn(folder: Path) -> Mapping[str, Samples]:
    from torchvision.datasets import SVHN

    return {split: SVHN(folder, split, download=True) for split in ("train", "test")}


def _flowers(folder: Path) -> Mapping[str, Samples]:
    from torchvision.datasets import Flowers102

    return {split: Flowers102(folder, split, download=True) for split in SPLITS}


NONE_STATED = "none stated by its authors"
RESEARCH = "non-commercial research only"
# fmt: off
SOURCES = (
    Source(DomainProtocol("aircraft", 100, 3334, 3333, 3333, squash=True), 2770, RESEARCH, _aircraft, {}),
    Source(DomainProtocol("cifar100", 100, 40000, 10000, 10000), 169, NONE_STATED, _cifar100, {"val": ("train", 0.2)}),
    Source(DomainProtocol("dtd", 47, 1880, 1880, 1880), 625, "research only", _dtd, {}),
    Source(DomainProtocol("gtsrb", 43, 26640, 0, 12630, flip=False), 280, NONE_STATED, _gtsrb,
           {"val": ("train", 0.2)}, _tracks),
    Source(DomainProtocol("omniglot", 1623, 17853, 6492, 8115, flip=False), 16, "MIT", _omniglot,
           {"test": ("train", 0.25), "val": ("train", 4 / 15)}),
    Source(DomainProtocol("svhn", 10, 73257, 0, 26032, flip=False), 246, "non-commercial use only", _svhn,
           {"val": ("train", 0.2)}),
    Source(DomainProtocol("vgg-flowers", 102, 1020, 1020, 6149), 345, NONE_STATED, _flowers, {}),
)
# fmt: on
LEFT_OUT = {
    "imagenet12": "needs registration",
    "daimlerpedcls": "not in torchvision",
    "ucf101": "videos, of which the Decathlon shows dynamic images that nobody else has",
    "cubs, wikiart, sketch": "not in torchvision",
    "cars": "torchvision has a reader, but its address is gone",
}


def prepare_open(
    root: Path | str,
    domains: Iterable[str] | None = None,
    list_only: bool = False,
    sources: Sequence[Source] = SOURCES,
    free: Callable[[Path], int] = fetch.free_bytes,
    say: fetch.Say = print,
) -> list[Path]:
    """List sizes and licences, then download and pack below ROOT/open; returns the folders of the domains asked for.

    domains: some of them by name. list_only: nothing is downloaded. free: free bytes of a folder's disk.
    Downloads are kept in ROOT/open/downloads, which may be removed afterwards.
    Raises MadlabError for an unknown name, a download that fails, unofficial numbers of images, and a full disk.
    """
    protocol = Protocol("open", tuple(source.protocol for source in sources))
    names = {domain.name for domain in protocol.choose(domains or [source.protocol.name for source in sources])}
    chosen = [source for source in sources if source.protocol.name in names]
    for source in chosen:
        say(f"{source.protocol.name:12s} {source.megabytes:5d} MB   licence: {source.licence}")
    for name, why in LEFT_OUT.items() if domains is None else ():
        say(f"{name}: left out, {why}")
    folder = Path(root) / protocol.name
    if list_only:
        return [folder / source.protocol.name for source in chosen]
    with fetch.exclusive(folder, say):
        packing.remove_leftovers(folder)
        missing = [s for s in chosen if not packed.is_packed(folder / s.protocol.name, s.protocol)]
        # Archives are unpacked beside themselves, so each takes about twice its size.
        fetch.check_space(folder, sum(s.protocol.packed_bytes + 2_000_000 * s.megabytes for s in missing), free)
        for source in missing:
            _pack(folder, source, say)
    say(f"Ready in {folder}: {', '.join(source.protocol.name for source in chosen)}.")
    return [folder / source.protocol.name for source in chosen]


def flips(name: str) -> bool:
    """Whether a domain's training images may be mirrored."""
    return Protocol("open", tuple(source.protocol for source in SOURCES)).domain(name).flip


def load(name: str, root: Path | str, sources: Sequence[Source] = SOURCES) -> Domain:
    """A prepared domain, its images memory-mapped."""
    domain = Protocol("open", tuple(source.protocol for source in sources)).domain(name)
    whole = packed.open_packed(Path(root) / "open" / domain.name, f"madlab prepare open --root {root} --domains {name}")
    drawn = next(source.shares for source in sources if source.protocol.name == name)
    return whole.domain(description=f"drawn by us: {', '.join(drawn)}" if drawn else "official splits")


def _pack(folder: Path, source: Source, say: fetch.Say) -> None:
    domain = source.protocol
    downloads = folder / "downloads" / domain.name
    whole = downloads / "whole"
    if not whole.exists():
        # torchvision takes a half-unpacked folder of a killed run for a whole one, and resumes nothing.
        shutil.rmtree(downloads, ignore_errors=True)
        downloads.mkdir(parents=True)
    say(f"Downloading {domain.name} with torchvision.")
    try:
        official = source.read(downloads)
        labels = {split: np.array([label for _, label in _samples(official[split])], np.int64) for split in official}
    except Exception as error:  # a download that broke off makes torchvision's readers raise nearly anything
        raise MadlabError(
            f"torchvision could not download or read {domain.name} ({reason(error)}): check the network, remove "
            f"{downloads} and run this again, or leave this domain out with --domains."
        ) from error
    write_bytes(whole, b"")
    parts: dict[str, list[tuple[str, int]]] = {
        split: [(split, i) for i in range(len(official[split]))] for split in official
    }
    groups = {split: source.groups(official[split]) for split in official} if source.groups else {}
    for new, (old, share) in source.shares.items():
        places = parts[old]
        of_old = np.array([labels[split][i] for split, i in places])
        kept = packing.hold_out(of_old, share, groups=[groups[split][i] for split, i in places] if groups else None)
        parts[new] = [place for place, here in zip(places, kept, strict=True) if here]
        parts[old] = [place for place, here in zip(places, kept, strict=True) if not here]
    contents = {
        split: packing.Content(
            [f"{domain.name} {old} {i}" for old, i in parts[split]],
            np.array([labels[old][i] for old, i in parts[split]]),
        )
        for split in SPLITS
    }
    at = {place: (split, i) for split in SPLITS for i, place in enumerate(parts[split])}
    squares = (
        (*at[split, i], square_of(image, domain.size, domain.squash))
        for split in official
        for i, (image, _) in enumerate(_samples(official[split]))
    )
    class_names = getattr(official["train"], "classes", None) or [str(i) for i in range(domain.classes)]
    packing.pack(
        folder / domain.name,
        domain,
        list(class_names),
        contents,
        squares,
        {"torchvision": type(official["train"]).__name__},
    )


def _samples(dataset: Samples) -> Iterator[tuple[Image.Image, int]]:
    # torchvision's data sets end by their length: not all raise IndexError.
    return (dataset[i] for i in range(len(dataset)))
