"""The pocket benchmark: made anew it is the same, its splits never meet, and it is neither trivial nor noise."""

import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pooch
import pytest
import torch
from PIL import Image
from sklearn.linear_model import RidgeClassifier

from madlab.benchmarks import load_domain, pocket
from madlab.benchmarks.domain import SPLITS, Domain
from madlab.benchmarks.fetch import cache_folder
from madlab.benchmarks.pocket import SPECS, characters
from madlab.benchmarks.score import DECATHLON_BASELINE, SKETCH_BASELINE
from madlab.errors import MadlabError
from madlab.files.tensors import load_tensors, save_tensors

HARDEST_FOR_PIXELS = 0.62
"""A linear classifier on raw pixels stays below this on every domain (measured: 7 to 58 %)."""


def small(name: str, counts: tuple[int, int, int] = (2, 1, 1)) -> dict[str, torch.Tensor]:
    """A few images of each class, drawn now."""
    return pocket.draw(replace(SPECS[name], counts=counts))


def test_names_follow_the_two_benchmarks() -> None:
    assert [SPECS[name].stands_for for name in pocket.DOMAINS] == list(DECATHLON_BASELINE)
    assert pocket.SKETCH_DOMAINS[0] == "pictures"  # there it is called imagenet
    assert [SPECS[name].stands_for for name in pocket.SKETCH_DOMAINS[1:]] == list(SKETCH_BASELINE)[1:]
    assert set(SPECS) == set(pocket.DOMAINS) | set(pocket.SKETCH_DOMAINS)


@pytest.mark.parametrize("name", SPECS)
def test_a_domain_is_balanced_and_whole(name: str) -> None:
    recipe, tensors = SPECS[name], small(name)
    classes = len(recipe.class_names)
    assert len(set(recipe.class_names)) == classes and 2 <= classes <= 60
    assert 800 <= classes * recipe.counts[0] <= 1200
    assert 200 <= classes * recipe.counts[1] <= 300
    assert 400 <= classes * recipe.counts[2] <= 500
    for split, count in zip(SPLITS, (2, 1, 1), strict=True):
        images, labels = tensors[f"{split}_images"], tensors[f"{split}_labels"]
        assert images.shape == (classes * count, 36, 36, 3) and images.dtype == torch.uint8
        assert Counter(labels.tolist()) == dict.fromkeys(range(classes), count)
    pictures = torch.cat([tensors[f"{split}_images"] for split in SPLITS])
    assert len({picture.numpy().tobytes() for picture in pictures}) == len(pictures)
    # Something is drawn in each: pixels differ by more than the noise of the camera.
    assert pictures.float().mean(3).flatten(1).std(1).min() > 5


def test_only_what_reads_one_way_round_is_not_mirrored() -> None:
    assert {name for name, recipe in SPECS.items() if not recipe.flip} == {"signs", "glyphs", "digits"}


DIGEST = """
from hashlib import sha256
import numpy as np
from madlab.benchmarks.pocket import SPECS
np.random.seed(1)
for name in reversed(SPECS):
    images = [SPECS[name].image(label, number) for label, number in ((1, 5), (0, 0))]
    print(name, *(sha256(image.tobytes()).hexdigest() for image in images))
"""


@pytest.mark.slow
def test_images_depend_on_nothing_but_their_number() -> None:
    """Another process, another hash seed, another order, another global random state: the same bytes."""
    environment = os.environ | {"PYTHONHASHSEED": "7"}
    elsewhere = subprocess.run(
        [sys.executable, "-c", DIGEST], env=environment, capture_output=True, text=True, check=True
    )
    there = {name: digests for name, *digests in map(str.split, elsewhere.stdout.splitlines())}
    np.random.seed(2)  # noqa: NPY002
    here = {
        name: [sha256(recipe.image(label, number).tobytes()).hexdigest() for label, number in ((0, 0), (1, 5))][::-1]
        for name, recipe in SPECS.items()
    }
    assert here == there and len({digest for digests in here.values() for digest in digests}) == 2 * len(SPECS)


def test_a_domain_is_drawn_once_and_then_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = pocket.load("glyphs", tmp_path)
    recipe = SPECS["glyphs"]
    for index in (0, 61, 239):  # classes take turns; test numbers follow those of train and val
        label, number = index % 60, 14 + 4 + index // 60
        assert drawn.test.labels[index] == label
        assert np.array_equal(drawn.test.images[index], recipe.image(label, number))

    def never(recipe: object) -> None:
        raise AssertionError("drawn although it is cached")

    monkeypatch.setattr(pocket, "draw", never)
    read = pocket.load("glyphs", tmp_path)
    assert read.class_names == drawn.class_names == list(characters.LETTERS) and not read.flip
    for split in SPLITS:
        assert torch.equal(getattr(read, split).images, getattr(drawn, split).images)
        assert torch.equal(getattr(read, split).labels, getattr(drawn, split).labels)


@pytest.mark.parametrize("harm", ["another version", "no version", "cut short", "empty"])
def test_a_cache_of_another_version_or_damaged_is_made_anew(
    harm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = replace(SPECS["walkers"], counts=(3, 2, 2))
    monkeypatch.setattr(pocket, "SPECS", {"walkers": few})
    good = pocket.load("walkers", tmp_path)
    path = tmp_path / "pocket" / "walkers.safetensors"
    whole = path.read_bytes()
    if harm in ("cut short", "empty"):
        path.write_bytes(whole[: len(whole) // 2] if harm == "cut short" else b"")
    else:
        tensors, metadata = load_tensors(path)
        blank = {name: torch.zeros_like(tensor) for name, tensor in tensors.items()}
        save_tensors(path, blank, metadata | {"version": "0"} if harm == "another version" else {})
    again = pocket.load("walkers", tmp_path)
    assert torch.equal(again.train.images, good.train.images) and again.train.images.any()
    assert path.read_bytes() == whole


def test_no_scanned_digit_is_in_two_splits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor as a neighbour at the edge: every scan that an image shows is noted."""
    shown: set[bytes] = set()

    def note(scan: np.ndarray, *where: object) -> Image.Image:
        shown.add(scan.tobytes())
        return Image.new("L", (144, 144))

    monkeypatch.setattr(characters, "placed", note)
    recipe, seen, first = SPECS["digits"], [], 0
    for count in recipe.counts:
        shown.clear()
        for label in range(10):
            for number in range(first, first + count):
                recipe.image(label, number)
        seen.append(set(shown))
        first += count
    assert [len(scans) for scans in seen] == [10 * count for count in recipe.counts]
    assert not seen[0] & seen[1] and not seen[0] & seen[2] and not seen[1] & seen[2]


def flat(images: torch.Tensor) -> np.ndarray:
    return images.flatten(1).numpy().astype(np.float32) / 255


@pytest.mark.parametrize(("name", "above"), [("sketches", 0.08), ("walkers", 0.5)])
def test_a_domain_is_learnable_but_not_by_pixels_alone(name: str, above: float) -> None:
    """Class means say more than chance (1/40, 1/2); a linear classifier on pixels stays far from the end."""
    domain: Domain = pocket.load(name)
    pixels, held_out = flat(domain.train.images), flat(domain.test.images)
    labels, truth = domain.train.labels.numpy(), domain.test.labels.numpy()
    means = np.stack([pixels[labels == label].mean(0) for label in range(domain.num_classes)])
    distances = ((held_out[:, None] - means) ** 2).sum(2)
    assert (distances.argmin(1) == truth).mean() > above
    centre, spread = pixels.mean(0), pixels.std(0) + 1e-3
    linear = RidgeClassifier(alpha=3000).fit((pixels - centre) / spread, labels)
    assert linear.score((held_out - centre) / spread, truth) < HARDEST_FOR_PIXELS


def test_an_unknown_name_is_told_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(MadlabError, match=r"no pocket domain 'sings'.*signs.*sketches"):
        pocket.load("sings", tmp_path)
    with pytest.raises(MadlabError, match=r"sings.*signs.*sketches"):
        load_domain("sings")


def test_the_cache_is_where_the_user_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pocket, "SPECS", {"walkers": replace(SPECS["walkers"], counts=(1, 1, 1))})
    monkeypatch.setenv("MADLAB_DATA", str(tmp_path))
    assert load_domain("walkers").num_classes == 2
    assert [path.name for path in (tmp_path / "pocket").iterdir()] == ["walkers.safetensors"]
    monkeypatch.delenv("MADLAB_DATA")
    assert cache_folder() == Path(pooch.os_cache("madlab"))
