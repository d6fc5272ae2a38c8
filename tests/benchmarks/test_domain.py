"""Domains from arrays as people bring them: a correct result, or one sentence with the real cause, at once."""

import math
import warnings
from collections import OrderedDict
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from madlab import Domain, MadlabError
from madlab.benchmarks.domain import match_classes
from madlab.benchmarks.split import SPLITS, Split
from madlab.errors import MadlabWarning

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 5, 7, 3), dtype=np.uint8)
LABELS = np.array([0, 1, 2, 0, 1, 2])


def split(count=6, seed=0, height=5, labels=None):
    pixels = np.random.default_rng(seed).integers(0, 256, (count, height, 7, 3), dtype=np.uint8)
    return Split(torch.from_numpy(pixels), torch.arange(count) % 3 if labels is None else torch.tensor(labels))


def domain(**changes):
    given = {"name": "own", "class_names": ["ant", "bee", "cat"]}
    given |= {name: split(seed=number) for number, name in enumerate(SPLITS)}
    return Domain(**(given | changes))


def read_only(array):
    array = array.copy()
    array.setflags(write=False)
    return array


IMAGES = {
    "NumPy bytes": PIXELS,
    "read-only": read_only(PIXELS),
    "reversed view": PIXELS[::-1][::-1],
    "transposed in memory": np.asfortranarray(PIXELS),
    "a list of arrays": list(PIXELS),
    "a list of tensors": [torch.from_numpy(image) for image in PIXELS],
    "Pillow images": [Image.fromarray(image) for image in PIXELS],
    "int64": PIXELS.astype(np.int64),
    "uint16, big-endian": PIXELS.astype(">u2"),
    "torch int32": torch.from_numpy(PIXELS).int(),
    "0..1": PIXELS / 255,
    "0..1 in single precision": torch.from_numpy(PIXELS) / 255,
    "0..1 in long double": (PIXELS / 255).astype(np.longdouble),
    "0..1 that needs a gradient": (torch.from_numpy(PIXELS) / 255).requires_grad_(),
    "floats of 0..255": PIXELS.astype(np.float16),
    "doubles of 0..255": torch.from_numpy(PIXELS).double(),
}


@pytest.mark.parametrize("kind", IMAGES)
def test_images_of_any_type_become_the_same_bytes(kind):
    part = Split(IMAGES[kind], LABELS)
    assert part.images.dtype == torch.uint8
    assert np.array_equal(part.images.numpy(), PIXELS)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision_keeps_what_it_can(kind):
    part = Split((torch.from_numpy(PIXELS) / 255).to(kind), LABELS)
    worst = (part.images.int() - torch.from_numpy(PIXELS).int()).abs().max()
    assert worst <= (1 if kind == torch.bfloat16 else 0)


def test_floats_a_rounding_error_outside_of_0_to_1_are_bytes():
    values = PIXELS / 255 + np.where(PIXELS == 255, 1e-4, 0) - np.where(PIXELS == 0, 1e-4, 0)
    assert values.min() < 0 and values.max() > 1
    assert np.array_equal(Split(values, LABELS).images.numpy(), PIXELS)


def test_black_and_white_is_black_and_white():
    part = Split(PIXELS > 127, LABELS)
    assert np.array_equal(part.images.numpy(), np.where(PIXELS > 127, 255, 0))


def test_bytes_are_not_copied():
    images = torch.from_numpy(PIXELS)
    assert Split(images, LABELS).images.data_ptr() == images.data_ptr()


def test_many_images_are_converted_whole():
    """More than one chunk, the only bright pixel in the last."""
    values = np.zeros((600, 2, 2, 3))
    values[599, 1, 1, 2] = 1
    part = Split(values, np.zeros(600, int))
    assert part.images.sum() == part.images[599, 1, 1, 2] == 255


@pytest.mark.parametrize(
    "labels",
    [
        LABELS.astype(np.int32),
        LABELS.astype(np.uint8),
        LABELS.astype(">i2"),
        LABELS.tolist(),
        LABELS.astype(float),
        torch.from_numpy(LABELS).to(torch.uint8),
        torch.from_numpy(LABELS).half(),
        [np.int64(label) for label in LABELS],
        tuple(torch.tensor(int(label)) for label in LABELS),
    ],
)
def test_labels_of_any_type_become_whole_numbers(labels):
    part = Split(PIXELS, labels)
    assert part.labels.dtype == torch.int64 and part.labels.tolist() == LABELS.tolist()


def test_truth_values_are_the_labels_of_two_classes():
    assert Split(PIXELS, LABELS > 0).labels.tolist() == [0, 1, 1, 0, 1, 1]


def spoiled(value):
    pixels = PIXELS / 255
    pixels[3, 2, 1, 0] = value
    return pixels


BAD_SPLITS = {
    "grey": (PIXELS[..., 0], LABELS, ["(6, 5, 7)", "repeat the grey channel"]),
    "one channel": (PIXELS[..., :1], LABELS, ["(6, 5, 7, 1)", "repeat the grey channel"]),
    "one channel first": (PIXELS[..., 0][:, None], LABELS, ["(6, 1, 5, 7)", "repeat the grey channel"]),
    "channels first": (PIXELS.transpose(0, 3, 1, 2), LABELS, ["(6, 3, 5, 7)", "permute(0, 2, 3, 1)"]),
    "four channels": (np.concatenate([PIXELS, PIXELS[..., :1]], 3), LABELS, ["(6, 5, 7, 4)", "fourth channel"]),
    "two dimensions": (PIXELS.reshape(6, -1), LABELS, ["(6, 105)"]),
    "no pixels": (PIXELS[:, :0], LABELS, ["(6, 0, 7, 3)"]),
    "images of two sizes": ([PIXELS[0], PIXELS[1, :3]], [0, 1], ["do not all have the same shape"]),
    "text": (["a.png", "b.png"], [0, 1], ["must be numbers"]),
    "objects": (np.array([None] * 6), LABELS, ["must be numbers"]),
    "complex": (PIXELS.astype(complex), LABELS, ["must be numbers"]),
    "a complex tensor": (torch.from_numpy(PIXELS).to(torch.complex64), LABELS, ["complex64", "real numbers"]),
    "NaN": (spoiled(math.nan), LABELS, ["NaN or infinite"]),
    "infinity": (spoiled(math.inf), LABELS, ["NaN or infinite"]),
    "normalised": (PIXELS / 127.5 - 1, LABELS, ["from -1 to 1", "0 to 1"]),
    "a little above one": (spoiled(1.2), LABELS, ["to 1.2", "no clear meaning"]),
    "12 bits": (PIXELS.astype(np.uint16) * 16, LABELS, ["4080", "0 to 255"]),
    "negative": (PIXELS.astype(int) - 1, LABELS, ["-1"]),
    "fewer labels": (PIXELS, LABELS[:5], ["6 images but 5 labels"]),
    "more labels": (PIXELS[:5], LABELS, ["5 images but 6 labels"]),
    "one-hot": (PIXELS, np.eye(3)[LABELS], ["(6, 3)", "argmax(1)"]),
    "a column": (PIXELS, LABELS[:, None], ["(6, 1)", "flatten"]),
    "one number": (PIXELS, 3, ["()"]),
    "no labels": (PIXELS, None, ["labels", "must be numbers"]),
    "halves": (PIXELS, LABELS / 2, ["not whole numbers"]),
    "NaN as label": (PIXELS, [0, 1, 2, 0, 1, math.nan], ["not whole numbers"]),
    "infinite label": (PIXELS, [0, 1, 2, 0, 1, math.inf], ["not whole numbers"]),
    "labels beyond 64 bits": (PIXELS, [0, 1, 2, 0, 1, 1e300], ["not whole numbers of 64 bits"]),
    "unsigned labels beyond 63": (PIXELS, np.array([0, 1, 2, 0, 1, 2**63 + 1], np.uint64), ["64 bits"]),
    "one image": (PIXELS[0], LABELS, ["(5, 7, 3)", "image[None]"]),
    "sparse": (torch.from_numpy(PIXELS).to_sparse(), LABELS, ["sparse", "dense"]),
    "no memory": (torch.from_numpy(PIXELS).to("meta"), LABELS, ["meta"]),
    "names as labels": (PIXELS, ["ant"] * 6, ["labels", "must be numbers"]),
}


@pytest.mark.parametrize("case", BAD_SPLITS)
def test_arrays_that_cannot_be_used_are_named(case):
    images, labels, words = BAD_SPLITS[case]
    with pytest.raises(MadlabError) as caught:
        domain(train=Split(images, labels))
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


BAD_DOMAINS = {
    "no name": ({"name": ""}, ["name ''"]),
    "a blank name": ({"name": " \n"}, ["at least one letter"]),
    "a number as name": ({"name": 3}, ["name 3"]),
    "one class": ({"class_names": ["ant"]}, ["at least two classes", "names 1"]),
    "no class": ({"class_names": []}, ["names 0"]),
    "a class twice": ({"class_names": ["ant", "bee", "ant"]}, ["not all different", "ant"]),
    "a number twice": ({"class_names": [1, 2, "1"]}, ["not all different", "1"]),
    "an empty class name": ({"class_names": ["ant", "", "cat"]}, ["'' cannot be the name of a class"]),
    "a class that is None": ({"class_names": ["ant", None, "cat"]}, ["None cannot be"]),
    "a class that is a float": ({"class_names": [1.5, 2.5, 3.5]}, ["1.5 cannot be"]),
    "one text": ({"class_names": "abc"}, ["list of texts"]),
    "class_to_idx": ({"class_names": {"ant": 0, "bee": 1, "cat": 2}}, ["list of texts"]),
    "no list": ({"class_names": 3}, ["list of texts"]),
    "too few names": ({"class_names": ["ant", "bee"]}, ["labels from 0 to 2 in train", "0 to 1"]),
    "a negative label": ({"val": split(labels=[0, 1, 2, -1, 0, 1])}, ["labels from -1 to 2 in val"]),
    "no split": ({"val": (PIXELS, LABELS)}, ["val=Split(images, labels)", "tuple"]),
    "an empty split": ({"test": split(0)}, ["no images in test"]),
    "one training image": ({"train": split(1)}, ["one image in train", "BatchNorm"]),
    "splits of two sizes": ({"val": split(height=4)}, ["5 x 7 in train", "4 x 7 in val"]),
    "no std": ({"normalization": {"mean": [0.5] * 3}}, ["normalization of domain 'own'", "std"]),
    "another key": ({"normalization": {"mean": [0.5] * 3, "std": [0.5] * 3, "max": [1] * 3}}, ["max"]),
    "std 0": ({"normalization": {"mean": [0.5] * 3, "std": [0.5, 0, 0.5]}}, ["std.1", "greater than 0"]),
    "NaN": ({"normalization": {"mean": [0.5, math.nan, 0.5], "std": [0.5] * 3}}, ["mean.1", "finite"]),
    "one channel": ({"normalization": {"mean": [0.5], "std": [0.5]}}, ["mean", "at least 3"]),
    "one number": ({"normalization": {"mean": 0.5, "std": 0.5}}, ["mean", "list"]),
    "text": ({"normalization": {"mean": ["a", "b", "c"], "std": [0.5] * 3}}, ["mean.0", "number"]),
    "a flip that is text": ({"flip": "no"}, ["flip='no'", "True or False"]),
    "values of 0 to 255": ({"normalization": {"mean": [120.0] * 3, "std": [60.0] * 3}}, ["mean.0 is 120", "0..1"]),
    "a ragged mean": ({"normalization": {"mean": [[1], [1, 2], 0], "std": [0.5] * 3}}, ["mean.0"]),
    "keys that are no texts": ({"normalization": {(0, 1): [0.5] * 3}}, ["keys must be"]),
    "half a surrogate pair": ({"class_names": ["ant", "bee", "cat\udcff"]}, ["cannot be the name of a class"]),
    "a name that no file can hold": ({"name": "own\ud800"}, ["at least one letter"]),
    "a set of classes": ({"class_names": {"ant", "bee", "cat"}}, ["list of texts"]),
    "bytes": ({"class_names": b"abc"}, ["list of texts"]),
    "a description that is None": ({"description": None}, ["description=None"]),
    "no mapping": ({"normalization": [0.5, 0.5]}, ["normalization of domain 'own'"]),
}


@pytest.mark.parametrize("case", BAD_DOMAINS)
def test_domains_that_cannot_be_trained_are_told_at_once(case):
    changes, words = BAD_DOMAINS[case]
    with pytest.raises(MadlabError) as caught:
        domain(**changes)
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_class_names_may_be_numbers_or_an_array():
    assert domain(class_names=[2, np.int64(1), "0"]).class_names == ["2", "1", "0"]
    names = domain(class_names=np.array(["ant", "bee", "cat"])).class_names
    assert names == ["ant", "bee", "cat"] and all(type(name) is str for name in names)
    assert domain(class_names=(name for name in "abc")).class_names == ["a", "b", "c"]


@pytest.mark.parametrize("kind", [tuple, np.array, torch.tensor])
def test_a_normalization_may_be_of_any_kind_of_list(kind):
    given = OrderedDict(mean=kind([0.25, 0.5, 0.75]), std=kind([0.125, 0.25, 1]))
    assert domain(normalization=given).normalization == {"mean": [0.25, 0.5, 0.75], "std": [0.125, 0.25, 1.0]}


def test_floats_of_0_to_1_are_the_domain_that_their_bytes_are():
    """They used to be divided by 255 a second time."""
    parts = {name: split(seed=number) for number, name in enumerate(SPLITS)}
    floats = {name: Split(part.images / 255, part.labels) for name, part in parts.items()}
    assert domain(**floats).normalization == domain(**parts).normalization
    assert domain(**floats).normalization["mean"][0] == pytest.approx(
        parts["train"].images[..., 0].double().mean().item() / 255, abs=1e-6
    )


def test_black_images_do_not_pass_without_a_word():
    dark = Split((PIXELS / 255).astype(np.uint8), LABELS)  # the usual mistake: all becomes 0 or 1
    with pytest.warns(MadlabWarning, match="No training image of domain 'own' has a pixel above 1 of 255"):
        domain(train=dark)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        night = domain(train=Split(PIXELS // 100, LABELS))
        night.to("cpu")


def test_classes_in_another_order_are_renumbered():
    own = domain()
    turned = match_classes(own, ["cat", "ant", "bee"], "the run")
    assert turned.class_names == ["cat", "ant", "bee"]
    for name in SPLITS:
        before, after = getattr(own, name), getattr(turned, name)
        assert torch.equal(before.images, after.images)
        told = [own.class_names[label] for label in before.labels]
        assert [turned.class_names[label] for label in after.labels] == told
    assert match_classes(turned, own.class_names, "the run").train.labels.equal(own.train.labels)
    assert match_classes(own, ("ant", "bee", "cat"), "the run") is own
    assert turned.normalization == own.normalization


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["ant", "bee", "dog"], ["lacks dog", "adds cat", "'own'", "the run runs/x"]),
        (["ant", "bee"], ["adds cat"]),
        (["ant", "bee", "cat", "dog"], ["lacks dog"]),
        ([f"class {i}" for i in range(9)], ["lacks class 0, class 1, class 2 and 6 more", "adds ant, bee, cat"]),
        (["ant", "bee", "cat", "cat"], ["not all different", "the run runs/x"]),
    ],
)
def test_other_classes_are_told_with_their_difference(names, words):
    with pytest.raises(MadlabError) as caught:
        match_classes(domain(), names, "the run runs/x")
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_a_class_that_train_does_not_show_is_told():
    labels = [0, 1, 1, 0, 1, 0]
    with pytest.warns(MadlabWarning, match="'own' has no training image of cat:"):
        domain(train=split(labels=labels))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        domain(val=split(labels=labels))


@pytest.mark.parametrize("size", [0, -1, 2.5, True, "36", None])
def test_images_are_not_shrunk_to_what_is_no_size(size):
    for given in (domain(), split()):
        with pytest.raises(MadlabError, match="choose a whole number of at least 1"):
            given.shrunk(size)


@pytest.mark.parametrize("device", ["meta", "cuda:99", "nowhere"])
def test_a_device_that_is_not_there_is_told(device):
    with pytest.raises(MadlabError, match=r"There is no device .* choose one of cpu"):
        domain().to(device)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_labels_follow_their_images_to_a_device():
    part = Split(torch.from_numpy(PIXELS), LABELS).to("cuda")
    assert part.images.device == part.labels.device and part.images.device.type == "cuda"


def test_replacing_a_split_checks_it_again():
    with pytest.raises(MadlabError, match="no images in val"):
        replace(domain(), val=split(0))
