"""The Visual Decathlon 1.0 as data, its preparation, and its domains for training.

Rebuffi, Bilen, Vedaldi, "Learning multiple visual domains with residual adapters", arXiv 1705.08045. Counts of images
and archive checksums: TensorFlow Datasets' catalogue; means, deviations and the three domains without flips: code of
srebuffi/residual_adapters. Pictures have a short side of 72 pixels, networks see 64. Published codes cut aircraft
(wide) and daimlerpedcls (72 x 144) in different ways; here they are squashed to a square, as NetTailor and Universal
Representations do, because a centre cut would lose wing tips, heads and feet.
"""

import itertools
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import Tensor

from madlab.benchmarks import fetch, packed, packing
from madlab.benchmarks.annotations import MOST_FILES, Annotations, most_bytes, read_annotations, read_test_labels
from madlab.benchmarks.archives import IMAGE_BYTES, check_readable, members
from madlab.benchmarks.domain import Domain
from madlab.benchmarks.fetch import Archive
from madlab.benchmarks.protocol import DomainProtocol, Protocol
from madlab.benchmarks.split import SPLITS, Split
from madlab.errors import MadlabError
from madlab.files.plain import write_bytes

VGG = "http://www.robots.ox.ac.uk/~vgg/share/"
IMAGENET = "imagenet12"
ANNOTATION_FILES = {"train": "train", "val": "val", "test": "test_stripped"}


def _statistics(mean: Iterable[float], std: Iterable[float]) -> dict[str, list[float]]:
    return {"mean": list(mean), "std": list(std)}


# fmt: off
DOMAINS = (
    DomainProtocol("aircraft", 100, 3334, 3333, 3333, _statistics(
        (0.47983041, 0.51074066, 0.53437998), (0.21070221, 0.20508901, 0.23729657)), squash=True, index=1),
    DomainProtocol("cifar100", 100, 40000, 10000, 10000, _statistics(
        (0.50705882, 0.48666667, 0.44078431), (0.26745098, 0.25647059, 0.27607843)), index=2),
    DomainProtocol("daimlerpedcls", 2, 23520, 5880, 19600, _statistics(
        (0.48203529,) * 3, (0.23612616,) * 3), squash=True, index=3),
    DomainProtocol("dtd", 47, 1880, 1880, 1880, _statistics(
        (0.52696497, 0.47025164, 0.42396662), (0.25226877, 0.2409176, 0.2499409)), index=4),
    DomainProtocol("gtsrb", 43, 31367, 7842, 12630, _statistics(
        (0.33921263, 0.3117836, 0.32047045), (0.27560347, 0.26576119, 0.27089863)), flip=False, index=5),
    DomainProtocol(IMAGENET, 1000, 1232167, 49000, 48238, _statistics(
        (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)), index=6),
    DomainProtocol("omniglot", 1623, 17853, 6492, 8115, _statistics(
        (0.08099839,) * 3, (0.27046935,) * 3), flip=False, index=7),
    DomainProtocol("svhn", 10, 47217, 26040, 26032, _statistics(
        (0.4376821, 0.4437697, 0.47280442), (0.19803012, 0.20101562, 0.19703614)), flip=False, index=8),
    DomainProtocol("ucf101", 101, 7585, 1952, 3783, _statistics(
        (0.49953101, 0.49880386, 0.49981996), (0.10898684, 0.10810246, 0.10679939)), index=9),
    DomainProtocol("vgg-flowers", 102, 1020, 1020, 6149, _statistics(
        (0.43414682, 0.38309883, 0.29714763), (0.28509808, 0.23842338, 0.2639633)), index=10),
)
# fmt: on
ARCHIVES = {
    "devkit": Archive(
        "decathlon-1.0-devkit.tar.gz",
        23_503_205,
        "f86d9e128678434ff2a3a374f00eb3e2ec2267e15e53ddae5f19ff19378b5ff7",
        (VGG + "decathlon-1.0-devkit.tar.gz",),
    ),
    "data": Archive(
        "decathlon-1.0-data.tar.gz",
        406_351_554,
        "8eca928bda025d855c91a78db45b3b18bc322efd7b1462a041e62c27b3c83c25",
        (VGG + "decathlon-1.0-data.tar.gz",),
    ),
    IMAGENET: Archive(
        "decathlon-1.0-data-imagenet.tar",
        6_535_075_840,
        "93caac18a907266f917136849c1db7bbf88dd595120af1a8eea7177138962e4a",
        manual="ImageNet needs registration, so download it yourself at https://image-net.org and put it there, "
        "or say where it is with --imagenet FILE",
    ),
}
DECATHLON = Protocol("decathlon", DOMAINS, ARCHIVES)


def prepare_decathlon(
    root: Path | str,
    domains: Iterable[str] | None = None,
    imagenet: Path | str | None = None,
    mirrors: Iterable[str] = (),
    labels: Path | str | None = None,
    protocol: Protocol = DECATHLON,
    timeout: float = 30,
    free: Callable[[Path], int] = fetch.free_bytes,
    say: fetch.Say = print,
) -> list[Path]:
    """Fetch, check and pack the Decathlon below ROOT/decathlon; returns the folders of the domains asked for.

    What is there already is kept, so a call after an interruption goes on with what is missing; two calls at once wait
    for each other. Archives stay in ROOT/decathlon/downloads, which may be removed afterwards.
    domains: some of the ten by name; all when not given, ImageNet only if its archive is there.
    imagenet: where the ImageNet archive is, if not in the downloads folder; it needs registration, so nobody can fetch
    it for you. mirrors: base addresses that are asked first. labels: a folder or zip with DOMAIN_test.json files that
    have the test labels (labels_test.zip of srebuffi/residual_adapters), to score the test split offline.
    timeout: seconds without data after which the next host is asked. free: free bytes of a folder's disk.
    Raises MadlabError for whatever is missing, damaged or not the official data; nothing half-made is left as whole.
    """
    folder = Path(root) / protocol.name
    downloads = folder / "downloads"
    if imagenet is not None and not Path(imagenet).is_file():
        raise MadlabError(f"There is no ImageNet archive {imagenet}: say where {protocol.archives[IMAGENET].name} is.")
    with fetch.exclusive(folder, say):
        packing.remove_leftovers(folder)
        if labels is not None:
            check_readable(Path(labels), MOST_FILES)  # before hours of work
        downloads.mkdir(exist_ok=True)
        local = Path(imagenet) if imagenet else downloads / protocol.archives[IMAGENET].name
        if domains is None:
            domains = [domain.name for domain in protocol.domains if domain.name != IMAGENET or local.is_file()]
        chosen = protocol.choose(domains)
        missing = [domain for domain in chosen if not packed.is_packed(folder / domain.name, domain)]
        if missing:
            _check_space(folder, downloads, missing, protocol, free)
            _prepare(folder, downloads, missing, local, protocol, mirrors, timeout, say)
        if labels is not None:
            _store_labels(folder, Path(labels), chosen, say)
        say(f"Ready in {folder}: {', '.join(domain.name for domain in chosen)}.")
    return [folder / domain.name for domain in chosen]


def flips(name: str) -> bool:
    """Whether a domain's training images may be mirrored."""
    return DECATHLON.domain(name).flip


def load(name: str, root: Path | str, test: str | None = None, protocol: Protocol = DECATHLON) -> Domain:
    """A prepared domain, its images memory-mapped.

    The Decathlon keeps its test labels to itself. test: "labels": the official test split, with the label files that
    `prepare_decathlon(labels=...)` stored. "val": the validation split in two halves, every second image of each class
    for selection and the rest in the place of the test split; the domain's name then ends in "@val", because such
    accuracies do not compare with published ones, and its description says why. None: "labels" where they are stored.
    """
    folder = Path(root) / protocol.name
    domain = protocol.domain(name)
    whole = packed.open_packed(folder / name, f"madlab prepare {protocol.name} --root {root} --domains {name}")
    stored = folder / "labels_test"
    if test is None:
        test = "labels" if (stored / f"{name}_test.json").exists() else "val"
    if test == "labels":
        label_of = read_test_labels(stored, domain)
        labels = torch.tensor([label_of[image] for image in whole.ids("test").tolist()])
        return whole.domain(test=Split(whole.images("test"), labels), description="official test split")
    if test != "val":
        raise MadlabError(f"test={test!r} is not known: choose 'labels' or 'val'.")
    images, labels = whole.images("val"), whole.labels("val")
    first = torch.zeros(len(labels), dtype=torch.bool)
    for label in range(domain.classes):
        first[torch.nonzero(labels == label).flatten()[::2]] = True
    return whole.domain(
        name=f"{name}@val",
        val=Split(images[first], labels[first]),
        test=Split(images[~first], labels[~first]),
        description="test labels are not at hand: one half of the validation split selects, the other one is reported",
    )


def test_images(name: str, root: Path | str, protocol: Protocol = DECATHLON) -> tuple[Tensor, Tensor]:
    """The official test split: images uint8 (N, S, S, 3), memory-mapped, and their ids (N,) for `write_results`."""
    folder = Path(root) / protocol.name / protocol.domain(name).name
    whole = packed.open_packed(folder, f"madlab prepare {protocol.name} --root {root} --domains {name}")
    return whole.images("test"), whole.ids("test")


def _check_space(
    folder: Path, downloads: Path, missing: list[DomainProtocol], protocol: Protocol, free: Callable[[Path], int]
) -> None:
    needed = sum(domain.packed_bytes for domain in missing)
    keys = ["devkit"] + (["data"] if any(domain.name != IMAGENET for domain in missing) else [])
    for archive in (protocol.archives[key] for key in keys):
        if not (downloads / archive.name).exists():
            part = downloads / f"{archive.name}.part"
            needed += archive.size - (part.stat().st_size if part.exists() else 0)
    fetch.check_space(folder, needed, free)


def _prepare(
    folder: Path,
    downloads: Path,
    missing: list[DomainProtocol],
    imagenet: Path,
    protocol: Protocol,
    mirrors: Iterable[str],
    timeout: float,
    say: fetch.Say,
) -> None:
    mirrors = list(mirrors)
    from_vgg = [domain for domain in missing if domain.name != IMAGENET]
    if len(from_vgg) < len(missing):  # first of all, because the user may have to do something about it
        archive = protocol.archives[IMAGENET]
        if not imagenet.is_file():
            raise MadlabError(f"{imagenet} is not there: {archive.manual}.")
        fetch.check_sha256(imagenet, archive.sha256, say)
    devkit = fetch.fetch(protocol.archives["devkit"], downloads, mirrors, timeout, say)
    annotations = _read_devkit(devkit, missing)
    if from_vgg:
        data = fetch.fetch(protocol.archives["data"], downloads, mirrors, timeout, say)
        _pack_archive(folder, data, from_vgg, annotations, protocol, "data")
    if len(from_vgg) < len(missing):
        _pack_archive(folder, imagenet, [protocol.domain(IMAGENET)], annotations, protocol, IMAGENET)


def _read_devkit(devkit: Path, missing: list[DomainProtocol]) -> dict[str, dict[str, Annotations]]:
    """Domain -> split -> annotations, from DOMAIN_train.json, DOMAIN_val.json and DOMAIN_test_stripped.json."""
    wanted = {
        f"{domain.name}_{ending}.json": (domain, split)
        for domain in missing
        for split, ending in ANNOTATION_FILES.items()
    }
    found: dict[str, dict[str, Annotations]] = {domain.name: {} for domain in missing}
    for name, read in members(devkit, MOST_FILES):
        if place := wanted.pop(os.path.basename(name), None):
            domain, split = place
            found[domain.name][split] = read_annotations(read(most_bytes(domain)), f"{devkit}/{name}", domain, split)
    if wanted:
        raise MadlabError(f"{devkit} lacks {', '.join(wanted)}: remove it and run this again.")
    return found


def _pack_archive(
    folder: Path,
    archive: Path,
    domains: list[DomainProtocol],
    annotations: dict[str, dict[str, Annotations]],
    protocol: Protocol,
    key: str,
) -> None:
    """Pack the domains in one pass over an archive, in which each domain's images follow one another."""
    waiting, most = {domain.name: domain for domain in domains}, protocol.most_files
    relative = ((name.removeprefix("data/"), read) for name, read in members(archive, most))
    for name, group in itertools.groupby(relative, key=lambda member: member[0].split("/")[0]):
        if (domain := waiting.pop(name, None)) is None:
            continue
        splits = annotations[name]
        places = {file: (split, i) for split in SPLITS for i, file in enumerate(splits[split].names)}
        contents = {split: packing.Content(a.names, a.labels, a.ids) for split, a in splits.items()}
        items = ((*places[file], f"{archive}/{file}", read(IMAGE_BYTES)) for file, read in group if file in places)
        sources = {archive.name: protocol.archives[key].sha256}
        squares = packing.decode(items, domain, len(places))
        packing.pack(folder / name, domain, splits["train"].class_names, contents, squares, sources)
    if waiting:
        raise MadlabError(f"{archive} has no images of {', '.join(waiting)}: remove it and run this again.")


def _store_labels(folder: Path, source: Path, chosen: list[DomainProtocol], say: fetch.Say) -> None:
    """Copy the label files of the chosen domains, each checked before; not every domain needs one."""
    wanted = {f"{domain.name}_test.json": domain for domain in chosen}
    for name, read in members(source, MOST_FILES):
        base = os.path.basename(name)
        if base in wanted and not name.startswith("__MACOSX"):
            domain = wanted.pop(base)
            data = read(most_bytes(domain))
            if read_annotations(data, f"{source}/{name}", domain, "test").labels is None:
                raise MadlabError(f"{source}/{name} has no labels: give the labelled test files (labels_test.zip).")
            write_bytes(folder / "labels_test" / base, data)
    if len(wanted) == len(chosen):
        raise MadlabError(
            f"There is none of {', '.join(wanted)} in {source}: give the folder or zip of the test labels."
        )
    if wanted:
        say(f"No test labels for {', '.join(domain.name for domain in wanted.values())} in {source}.")
