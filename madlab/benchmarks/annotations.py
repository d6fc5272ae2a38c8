"""The Visual Decathlon's own files: COCO-style annotations to read, results.json to write, scoring without a server.

Ids are counted over the whole benchmark: domain k of the alphabetical order has the categories k * 10,000,000 + 1 on,
and the images k * 10,000,000 + 200,001 on, first train, then val, then test.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from madlab.benchmarks.archives import members
from madlab.benchmarks.protocol import DomainProtocol, Protocol
from madlab.benchmarks.schemas import AnnotationFile, Category, Prediction
from madlab.benchmarks.split import whole_numbers
from madlab.errors import MadlabError
from madlab.files.jsonfiles import read_json, write_json
from madlab.files.schemas import validated

OFFSET = 10_000_000
FIRST_IMAGE = 200_001
MOST_FILES = 10_000
"""More files than any archive of annotations or labels has."""


@dataclass(frozen=True)
class Annotations:
    """One split as its JSON file tells it: N file names, image ids int64 (N,), and labels int64 (N,) from 0 or None."""

    class_names: list[str]
    names: list[str]
    ids: np.ndarray
    labels: np.ndarray | None


def most_bytes(domain: DomainProtocol) -> int:
    """More bytes than any annotation file of a domain has: the official ones come to 206 per image."""
    return 1_000_000 + 1_000 * domain.classes + 400 * max(domain.train, domain.val, domain.test)


def read_annotations(data: bytes, source: str, domain: DomainProtocol, split: str) -> Annotations:
    """Read one annotation file and check it against the official counts and ids.

    data: the JSON text; source: what to call it in messages. Test files without labels ("stripped") give labels None.
    Raises MadlabError for anything that is not this domain's split.
    """
    content = validated(AnnotationFile, data, source, "fetch it again")
    images, categories = content.images, content.categories
    if split != "test" or categories:
        _check_categories(categories, source, domain)
    if len(images) != getattr(domain, split):
        raise MadlabError(f"{source} lists {len(images)} images instead of {getattr(domain, split)}: fetch it again.")
    ids = np.array([image["id"] for image in images], np.int64)
    if len(np.unique(ids)) < len(ids):
        raise MadlabError(f"{source} lists an image id twice: fetch it again.")
    first = domain.index * OFFSET + FIRST_IMAGE + domain.train + domain.val
    if split == "test" and not np.array_equal(np.sort(ids), np.arange(first, first + domain.test)):
        raise MadlabError(
            f"{source} does not have the test images {first} to {first + domain.test - 1}: fetch it again."
        )
    category_of: dict[int, int] = {}
    for entry in content.annotations:
        if category_of.setdefault(entry["image_id"], entry["category_id"]) != entry["category_id"]:
            raise MadlabError(f"{source} gives image {entry['image_id']} two classes: fetch it again.")
    labels = np.array([category_of.get(image["id"], 0) for image in images], np.int64) - domain.index * OFFSET - 1
    unknown = (labels < 0) | (labels >= domain.classes)
    stripped = split == "test" and bool(unknown.all())
    if unknown.any() and not stripped:
        image = images[int(unknown.argmax())]["file_name"]
        raise MadlabError(f"{source} has no class of {domain.name} for {image}: fetch it again.")
    class_names = [category["name"] for category in sorted(categories, key=lambda category: category["id"])]
    names = [image["file_name"].removeprefix("data/") for image in images]
    return Annotations(class_names, names, ids, None if stripped else labels)


def read_test_labels(source: Path, domain: DomainProtocol) -> dict[int, int]:
    """Image id -> label from 0, out of DOMAIN_test.json in a folder or zip (the residual adapters' labels_test.zip)."""
    for name, read in members(source, MOST_FILES):
        if name.split("/")[-1] == f"{domain.name}_test.json" and not name.startswith("__MACOSX"):
            found = read_annotations(read(most_bytes(domain)), f"{source}/{name}", domain, "test")
            if found.labels is None:
                raise MadlabError(f"{source}/{name} has no labels: give the labelled test files (labels_test.zip).")
            return dict(zip(found.ids.tolist(), found.labels.tolist(), strict=True))
    raise MadlabError(f"There is no {domain.name}_test.json in {source}: give the folder or zip of the test labels.")


def write_results(path: Path | str, predictions: Mapping[str, tuple[Any, Any]], protocol: Protocol) -> None:
    """Write the challenge's results.json: a list of {"image_id", "category_id"} over all test images given.

    predictions: domain -> (image ids int64 (N,), predicted labels from 0, int64 (N,)), as tensors, arrays or lists.
    """
    entries = []
    for domain in protocol.choose(predictions):
        given = zip(predictions[domain.name], ("ids", "labels"), strict=True)
        ids, labels = (whole_numbers(numbers, what).cpu().numpy() for numbers, what in given)
        if len(ids) != len(labels) or len(np.unique(ids)) < len(ids):
            raise MadlabError(
                f"{domain.name} needs one prediction per image: got {len(ids)} ids and {len(labels)} labels."
            )
        if len(labels) and not (labels.min() >= 0 and labels.max() < domain.classes):
            raise MadlabError(
                f"{domain.name} has the labels 0 to {domain.classes - 1}: got {labels.min()} to {labels.max()}."
            )
        categories = labels + domain.index * OFFSET + 1
        entries += [{"image_id": int(i), "category_id": int(c)} for i, c in zip(ids, categories, strict=True)]
    write_json(path, entries)


def submission_accuracies(path: Path | str, labels: Path | str, protocol: Protocol) -> dict[str, float]:
    """Test accuracy in percent of each domain in a results.json, by the labelled test files in a folder or zip.

    Raises MadlabError when a domain's predictions are not exactly one for each of its test images.
    """
    chosen: dict[int, dict[int, int]] = {}
    remedy = "write it with write_results"
    entries = validated(list[Prediction], read_json(path), f"The list of predictions in {path}", remedy)
    for entry in entries:
        image, category = entry["image_id"], entry["category_id"]
        if chosen.setdefault(image // OFFSET, {}).setdefault(image, category) != category:
            raise MadlabError(f"{path} has two predictions for image {image}: leave one.")
    accuracies = {}
    for domain in protocol.domains:
        if (predicted := chosen.pop(domain.index, None)) is None:
            continue
        truth = read_test_labels(Path(labels), domain)
        if predicted.keys() != truth.keys():
            raise MadlabError(
                f"{path} has not exactly the {domain.test} test images of {domain.name}: predict all of them."
            )
        first = domain.index * OFFSET + 1
        right = sum(predicted[image] - first == label for image, label in truth.items())
        accuracies[domain.name] = 100 * right / len(truth)
    if chosen:
        stray = next(iter(chosen.popitem()[1]))
        raise MadlabError(
            f"{path} has image {stray}, which is in no domain of the {protocol.name} benchmark: leave it out."
        )
    return accuracies


def _check_categories(categories: list[Category], source: str, domain: DomainProtocol) -> None:
    expected = range(domain.index * OFFSET + 1, domain.index * OFFSET + 1 + domain.classes)
    if len(categories) != domain.classes:
        raise MadlabError(f"{source} lists {len(categories)} classes instead of {domain.classes}: fetch it again.")
    if sorted(category["id"] for category in categories) != list(expected):
        raise MadlabError(f"{source} does not have the category ids {expected[0]} to {expected[-1]}: fetch it again.")
