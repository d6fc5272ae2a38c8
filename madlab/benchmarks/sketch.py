"""ImageNet-to-Sketch as data, its preparation, and its domains for training.

Mallya, Davis, Lazebnik, "Piggyback", arXiv 1801.06519: five domains beside ImageNet, in the folders of its code,
FOLDER/train/CLASS/IMAGE and FOLDER/test/CLASS/IMAGE. The two cropped domains are squashed to 224 pixels; of the others
the short side becomes 256, and networks see 224. Where the published codes cut a random resized window in training, we
cut a random window. There is no official validation split: a tenth of each training class is held out, by a seed.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from torchvision.datasets.folder import IMG_EXTENSIONS

from madlab.benchmarks import fetch, packed, packing
from madlab.benchmarks.archives import IMAGE_BYTES, members
from madlab.benchmarks.domain import Domain
from madlab.benchmarks.protocol import DomainProtocol, Protocol
from madlab.errors import MadlabError

IMAGENET_STATISTICS = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
PAGE = "https://uofi.box.com/s/ixncr3d85guosajywhf7yridszzg5zsq"
ENDINGS = ("", ".zip", ".tar", ".tar.gz", ".tgz")
VALIDATION_SHARE = 0.1


def _domain(name: str, folder: str, classes: int, train: int, test: int, squash: bool = False) -> DomainProtocol:
    size = 224 if squash else 256
    return DomainProtocol(name, classes, train, 0, test, IMAGENET_STATISTICS, True, squash, size, 224, folder)


SKETCH = Protocol(
    "sketch",
    (
        _domain("cubs", "cubs_cropped", 200, 5994, 5794, squash=True),
        _domain("cars", "stanford_cars_cropped", 196, 8144, 8041, squash=True),
        _domain("flowers", "flowers", 102, 2040, 6149),
        _domain("wikiart", "wikiart", 195, 42129, 10628),
        _domain("sketch", "sketches", 250, 16000, 4000),
    ),
)


def prepare_sketch(
    root: Path | str,
    source: Path | str | None = None,
    domains: Iterable[str] | None = None,
    protocol: Protocol = SKETCH,
    free: Callable[[Path], int] = fetch.free_bytes,
    say: fetch.Say = print,
) -> list[Path]:
    """Check and pack ImageNet-to-Sketch below ROOT/sketch; returns the folders of the domains asked for.

    The data are shared on a web page that needs a browser, so they are downloaded by hand. No checksum of them is
    published; what is checked are the classes and the numbers of images.
    source: one archive with all folders, or a folder that holds them as folders (also below data/) or as one archive
    each, such as flowers.zip; ROOT/sketch/downloads when not given. domains: some of the five by name.
    free: free bytes of a folder's disk.
    Raises MadlabError for whatever is missing, damaged or not the official data; nothing half-made is left as whole.
    """
    folder = Path(root) / protocol.name
    source = folder / "downloads" if source is None else Path(source)
    chosen = protocol.choose(domains if domains is not None else [domain.name for domain in protocol.domains])
    with fetch.exclusive(folder, say):
        packing.remove_leftovers(folder)
        missing = [domain for domain in chosen if not packed.is_packed(folder / domain.name, domain)]
        places = [_locate(domain, source) for domain in missing]
        fetch.check_space(folder, sum(domain.packed_bytes for domain in missing), free)
        for domain, place in zip(missing, places, strict=True):
            say(f"Packing {domain.name} from {place}.")
            _pack(folder / domain.name, domain, place, protocol.most_files, shared=place == source)
        say(f"Ready in {folder}: {', '.join(domain.name for domain in chosen)}.")
    return [folder / domain.name for domain in chosen]


def flips(name: str) -> bool:
    """Whether a domain's training images may be mirrored."""
    return SKETCH.domain(name).flip


def load(name: str, root: Path | str, protocol: Protocol = SKETCH) -> Domain:
    """A prepared domain, its images memory-mapped; validation is the tenth of each training class that was held out."""
    folder = Path(root) / protocol.name / protocol.domain(name).name
    whole = packed.open_packed(folder, f"madlab prepare {protocol.name} --root {root} --domains {name}")
    return whole.domain(description="official test split; a tenth of the training images is held out for validation")


def _locate(domain: DomainProtocol, source: Path) -> Path:
    if source.is_file():
        return source
    for parent in (source, source / "data"):
        for ending in ENDINGS:
            if (place := parent / f"{domain.folder}{ending}").exists():
                return place
    raise MadlabError(
        f"There is no folder or archive {domain.folder} in {source}: download the data sets from {PAGE} in a browser, "
        "put them there as they are, or say where they are with --source, and run this again."
    )


def _pack(target: Path, domain: DomainProtocol, place: Path, most: int, shared: bool) -> None:
    """Read the archive twice: once to learn the classes and names, once for the images."""
    found: dict[str, tuple[str, str]] = {}
    for name, _ in members(place, most):
        if parts := _parts(name, domain, shared):
            found[name] = parts
    names = sorted(found)
    class_names = sorted({class_name for split, class_name in found.values() if split == "train"})
    unknown = {class_name for _, class_name in found.values()} - set(class_names)
    if unknown:
        raise MadlabError(f"{place} has the class {min(unknown)} of {domain.name} in test only: copy the data again.")
    number = {class_name: i for i, class_name in enumerate(class_names)}
    listed = {split: [name for name in names if found[name][0] == split] for split in ("train", "test")}
    labels = {split: np.array([number[found[name][1]] for name in listed[split]], np.int64) for split in listed}
    packing.check_counts(domain, len(class_names), {"val": 0} | {split: len(listed[split]) for split in listed})
    held = packing.hold_out(labels["train"], VALIDATION_SHARE)
    contents = {
        "train": _content(listed["train"], labels["train"], ~held),
        "val": _content(listed["train"], labels["train"], held),
        "test": packing.Content(listed["test"], labels["test"]),
    }
    at = {name: (split, i) for split, content in contents.items() for i, name in enumerate(content.names)}
    items = ((*at[name], f"{place}/{name}", read(IMAGE_BYTES)) for name, read in members(place, most) if name in at)
    sources = {place.name: fetch.sha256_of(place)} if place.is_file() else {}
    packing.pack(target, domain, class_names, contents, packing.decode(items, domain, len(at)), sources)


def _parts(name: str, domain: DomainProtocol, shared: bool) -> tuple[str, str] | None:
    """(split, class) of an image file of this domain, None for anything else in the archive."""
    parts = name.split("/")
    if domain.folder in parts:
        parts = parts[parts.index(domain.folder) + 1 :]
    elif shared:
        return None
    hidden = any(part.startswith((".", "__MACOSX")) for part in parts)
    if hidden or len(parts) < 3 or parts[0] not in ("train", "test") or not name.lower().endswith(IMG_EXTENSIONS):
        return None
    return parts[0], parts[1]


def _content(names: list[str], labels: np.ndarray, chosen: np.ndarray) -> packing.Content:
    return packing.Content([name for name, here in zip(names, chosen, strict=True) if here], labels[chosen])
