"""Annotation, label and result files that are not what they should be: one sentence each, and nothing else."""

import json
import random
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from madlab.benchmarks.annotations import most_bytes, read_annotations, read_test_labels, submission_accuracies
from madlab.benchmarks.decathlon import DECATHLON
from madlab.errors import MadlabError

GTSRB = replace(DECATHLON.domain("gtsrb"), classes=2, train=2, val=1, test=3)
PROTOCOL = replace(DECATHLON, domains=(GTSRB,))
FIRST = 50_200_004


def content() -> dict:
    """A labelled test file of three images."""
    images = [{"id": FIRST + i, "file_name": f"data/gtsrb/test/{i}.jpg", "width": 72} for i in range(3)]
    labels = [{"id": 0, "image_id": FIRST + i, "category_id": 50_000_001 + i % 2} for i in range(3)]
    categories = [{"id": 50_000_001 + i, "name": name} for i, name in enumerate(("stop", "yield"))]
    return {"images": images, "annotations": labels, "categories": categories, "info": {"year": 2017}}


def changed(**parts: object) -> bytes:
    return json.dumps(content() | parts).encode()


def test_a_good_file_is_read() -> None:
    found = read_annotations(changed(), "file", GTSRB, "test")
    assert found.labels.tolist() == [0, 1, 0]
    assert (found.class_names, found.names[0]) == (["stop", "yield"], "gtsrb/test/0.jpg")
    assert read_annotations(changed(annotations=[]), "file", GTSRB, "test").labels is None
    stripped = [{"image_id": FIRST + i} for i in range(3)]
    assert read_annotations(changed(annotations=stripped), "file", GTSRB, "test").labels is None


FAULTS = {
    "empty": b"",
    "truncated": changed()[:100],
    "not JSON": b"<html>Not found</html>",
    "not UTF-8": changed().replace(b"stop", b"st\xf6p"),
    "UTF-16": changed().decode().encode("utf-16"),
    "deep nesting": b"[" * 100_000,
    "deep nesting in a field": b'{"images": [], "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "5,000 digits": changed().replace(str(FIRST).encode(), b"9" * 5000),
    "a list": b"[]",
    "a number": b"3",
    "null": b"null",
    "no images": json.dumps({"annotations": []}).encode(),
    "images that are numbers": changed(images=[1, 2, 3]),
    "images that are a mapping": changed(images={"a": 1}),
    "an id that is text": changed(images=[{"id": "1", "file_name": "x"}]),
    "an id that is a float": changed(images=[{"id": 1.5, "file_name": "x"}]),
    "an id below zero": changed(images=[{"id": -1, "file_name": "x"}]),
    "an id of 30 digits": changed(images=[{"id": 10**30, "file_name": "x"}]),
    "a name that is a number": changed(images=[{"id": 1, "file_name": 3}]),
    "annotations that are null": changed(annotations=None),
    "an annotation without image": changed(annotations=[{"category_id": 1}]),
    "a category that is NaN": changed(annotations=[{"image_id": 1, "category_id": float("nan")}]),
    "categories that are names": changed(categories=["stop", "yield"]),
    "a category without name": changed(categories=[{"id": 1}]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_no_annotation_file_is_told(fault: str) -> None:
    with pytest.raises(MadlabError, match=r"^the file is not valid \(.*\): fetch it again\.$"):
        read_annotations(FAULTS[fault], "the file", GTSRB, "test")


def test_an_image_of_two_classes_is_told() -> None:
    given = json.loads(changed())["annotations"]
    assert read_annotations(changed(annotations=given + given[:1]), "the file", GTSRB, "test").labels is not None
    other = given[0] | {"category_id": given[0]["category_id"] + 1}
    with pytest.raises(MadlabError, match=f"the file gives image {other['image_id']} two classes"):
        read_annotations(changed(annotations=[*given, other]), "the file", GTSRB, "test")


def test_files_changed_at_random() -> None:
    """Read, or refused in one sentence; nothing else is raised."""
    generator, whole, refused = random.Random(0), changed(), 0
    for _ in range(500):
        data = bytearray(whole)
        for _ in range(generator.choice([1, 2, 20])):
            data[generator.randrange(len(data))] = generator.choice(b'0123456789"[]{}:,.-eE\\ntfx\xff\x00')
        try:
            read_annotations(bytes(data), "file", GTSRB, "test")
        except MadlabError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > 200


def test_a_label_file_larger_than_it_can_be_is_not_read(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "labels.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("gtsrb_test.json", changed() + b" " * most_bytes(GTSRB))
    with pytest.raises(MadlabError, match=r"gtsrb_test\.json' has .* bytes, more than"):
        read_test_labels(tmp_path / "labels.zip", GTSRB)


def test_official_files_are_far_below_the_limit() -> None:
    """Those of aircraft and ucf101, 686,192 and 766,947 bytes for 3,333 and 3,783 test images."""
    for name, size in (("aircraft", 686_192), ("ucf101", 766_947)):
        domain = DECATHLON.domain(name)
        assert size / domain.test < 210
        assert most_bytes(domain) > 1.9 * 210 * max(domain.train, domain.val, domain.test)


RESULTS = {
    "a mapping": {"a": 1},
    "numbers": [1, 2, 3],
    "no category": [{"image_id": FIRST}],
    "text": [{"image_id": str(FIRST), "category_id": 1}],
    "floats": [{"image_id": FIRST, "category_id": 1.5}],
    "below zero": [{"image_id": FIRST, "category_id": -1}],
    "huge": [{"image_id": 10**30, "category_id": 1}],
}


@pytest.mark.parametrize("kind", RESULTS)
def test_results_of_another_shape_are_told(tmp_path: Path, kind: str) -> None:
    (tmp_path / "results.json").write_text(json.dumps(RESULTS[kind]))
    (tmp_path / "gtsrb_test.json").write_bytes(changed())
    with pytest.raises(MadlabError, match=r"results\.json is not valid \(.*\): write it with write_results"):
        submission_accuracies(tmp_path / "results.json", tmp_path, PROTOCOL)
