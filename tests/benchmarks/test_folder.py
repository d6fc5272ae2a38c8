"""Own image folders, against Pillow-made pictures whose pixels are known and torchvision's ImageFolder."""

import io
import os
import shutil
import struct
import time
import warnings
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps, features
from torchvision.datasets import ImageFolder

from madlab.benchmarks import folder as folder_module
from madlab.benchmarks.domain import SPLITS, Domain
from madlab.errors import MadlabError, MadlabWarning
from madlab.files import pictures
from madlab.files.pictures import read_image

pytestmark = pytest.mark.filterwarnings("ignore::madlab.errors.MadlabWarning")

CLASSES = ["Zebra", "ant", "bee 2", "10", "9"]  # sorted by code point: 10, 9, Zebra, ant, bee 2
SIZE = 12


@pytest.fixture
def tree(tmp_path):
    """A good folder: five classes, two or three images of exact size in each, one of them in a deeper folder."""
    numbers = np.random.default_rng(0)
    for split in SPLITS:
        for position, name in enumerate(CLASSES):
            deep = tmp_path / "own" / split / name / "deeper"
            deep.mkdir(parents=True)
            for file in ["b.png", "A.PNG", "deeper/c.bmp"][: 2 + (position + len(split)) % 2]:
                pixels = numbers.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "own" / split / name / file)
    return tmp_path / "own"


def painted(height=SIZE, width=SIZE, colour=(10, 60, 200)):
    return np.broadcast_to(np.array(colour, np.uint8), (height, width, 3)).copy()


def saved(path, image, **options):
    image.save(path, **options)
    return path


def test_classes_labels_and_pixels_are_those_of_imagefolder(tree):
    domain = Domain.from_folder(tree, size=SIZE, flip=False)
    assert (domain.name, domain.flip, domain.size) == ("own", False, SIZE)
    for split in SPLITS:
        oracle = ImageFolder(tree / split)
        assert domain.class_names == oracle.classes == ["10", "9", "Zebra", "ant", "bee 2"]
        part = getattr(domain, split)
        assert part.images.dtype == torch.uint8 and part.labels.dtype == torch.int64
        assert part.labels.tolist() == oracle.targets
        expected = np.stack([np.asarray(image) for image, _ in oracle])
        assert np.array_equal(part.images.numpy(), expected)


def test_hidden_folders_and_files_and_other_files_are_ignored(tree):
    before = Domain.from_folder(tree, size=SIZE)
    for split in SPLITS:
        (tree / split / ".hidden").mkdir()
        (tree / split / "notes.txt").write_text("not an image")
        (tree / split / "ant" / ".ipynb_checkpoints").mkdir()
        (tree / split / "ant" / "._b.png").write_bytes(b"not an image")
        for place in (".hidden/x.png", "ant/.ipynb_checkpoints/x.png"):
            Image.fromarray(painted()).save(tree / split / place)
    after = Domain.from_folder(tree, size=SIZE)
    assert after.class_names == before.class_names
    assert torch.equal(after.train.images, before.train.images)


def test_a_name_can_be_given(tree):
    assert Domain.from_folder(tree, size=SIZE, name="signs").name == "signs"


def test_short_side_is_scaled_and_the_centre_cut_out(tmp_path):
    """Three equal bars, red green blue: the square around the centre is the green one, give or take an edge pixel."""
    for shape in ((40, 120), (120, 40)):
        pixels = np.zeros((*shape, 3), np.uint8)
        for channel in range(3):
            bar = slice(40 * channel, 40 * channel + 40)
            pixels[(slice(None), bar) if shape[1] == 120 else bar] = np.eye(3, dtype=np.uint8)[channel] * 255
        got = read_image(saved(tmp_path / "bars.png", Image.fromarray(pixels)), 20)
        assert got.shape == (20, 20, 3)
        assert np.abs(got[2:-2, 2:-2] - np.array([0, 255, 0])).max() <= 2


def test_scaling_down_is_antialiased(tmp_path):
    """A fine chessboard becomes even grey; picking pixels would leave black and white."""
    board = ((np.indices((96, 96)).sum(0) % 2) * 255).astype(np.uint8)
    got = read_image(saved(tmp_path / "board.png", Image.fromarray(board)), 12)
    assert np.abs(got.astype(int) - 127.5).max() < 3


def test_exif_orientation_is_honoured(tmp_path):
    """Orientation 6 says: turn by 90 degrees clockwise, so the stored left edge becomes the top."""
    pixels = painted(32, 32, (0, 0, 0))
    pixels[:, :16] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    file = saved(tmp_path / "turned.jpg", Image.fromarray(pixels), exif=exif, quality=95)
    got = read_image(file, 32).astype(int)
    assert got[2:14].min() > 240 and got[18:30].max() < 15


@pytest.mark.parametrize("ending", ["png", "jpg", "tif"])
@pytest.mark.parametrize("orientation", range(10))
def test_every_orientation_is_pillows(tmp_path, orientation, ending):
    pixels = np.random.default_rng(orientation).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = saved(tmp_path / f"turned.{ending}", Image.fromarray(pixels), exif=exif)
    with Image.open(file) as image:
        assert np.array_equal(read_image(file, 32), np.asarray(ImageOps.exif_transpose(image)))


def test_rubbish_among_the_tags_spoils_no_photograph(tmp_path):
    flat = Image.new("RGB", (32, 32), (200, 100, 50))
    for number, tags in enumerate((b"Exif\x00\x00rubbish", b"Exif\x00\x00II*\x00\xff\xff\xff\xff")):
        file = saved(tmp_path / f"{number}.jpg", flat, exif=tags, dpi=(72, 72), quality=95)
        assert np.abs(read_image(file, 32).astype(int) - (200, 100, 50)).max() < 4


def test_large_photographs_keep_their_colours(tmp_path):
    """A JPEG far above the wanted size is decoded at a fraction of it; a smooth ramp shows any shift or loss."""
    ramp = np.tile(np.linspace(0, 255, 800).astype(np.uint8)[None, :, None], (600, 1, 3))
    got = read_image(saved(tmp_path / "large.jpg", Image.fromarray(ramp), quality=95), 30)
    expected = 255 * (100 + (np.arange(30) + 0.5) * 20) / 800  # the 600 middle columns, 20 to a pixel
    assert np.abs(got.astype(float) - expected[None, :, None]).max() < 4


def _modes():
    """name -> (file name, image, expected pixel), all of one colour."""
    colour = (10, 60, 200)
    rgb = Image.fromarray(painted(colour=colour))
    on_white = tuple(round(c * 51 / 255 + 255 * 204 / 255) for c in colour)  # alpha 51 of 255 is one fifth
    rgba = rgb.copy()
    rgba.putalpha(51)
    grey_alpha = Image.new("LA", (SIZE, SIZE), (100, 51))
    clear_palette = Image.new("P", (SIZE, SIZE), 1)
    clear_palette.putpalette([0, 0, 0, *colour])
    sixteen = np.full((SIZE, SIZE), 257 * 77, np.uint16)
    return {
        "rgb": ("a.png", rgb, colour),
        "grey": ("a.png", Image.new("L", (SIZE, SIZE), 99), (99, 99, 99)),
        "black and white": ("a.png", Image.new("1", (SIZE, SIZE), 1), (255, 255, 255)),
        "palette": ("a.png", rgb.convert("P", palette=Image.Palette.ADAPTIVE), colour),
        "palette with a clear colour": ("a.png", clear_palette, (255, 255, 255)),
        "grey and alpha": ("a.png", grey_alpha, (224, 224, 224)),
        "rgba": ("a.png", rgba, on_white),
        "cmyk": ("a.tif", Image.new("CMYK", (SIZE, SIZE), (255, 0, 0, 0)), (0, 255, 255)),
        "16 bits": ("a.png", Image.fromarray(sixteen), (77, 77, 77)),
        "16 bits, big-endian": ("a.tif", Image.fromarray(sixteen.astype(">u2")), (77, 77, 77)),
        "16 bits kept in 32": ("a.tif", Image.fromarray(sixteen.astype(np.int32)), (77, 77, 77)),
    }


@pytest.mark.parametrize("mode", list(_modes()))
def test_every_kind_of_pixel_becomes_rgb_bytes(mode, tmp_path):
    name, image, expected = _modes()[mode]
    options = {"transparency": 1} if mode == "palette with a clear colour" else {}
    got = read_image(saved(tmp_path / name, image, **options), SIZE)
    assert got.dtype == np.uint8 and got.shape == (SIZE, SIZE, 3)
    assert np.abs(got.astype(int) - np.array(expected)).max() <= 1


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_grey_without_a_range_of_its_own_uses_its_darkest_and_brightest(kind, tmp_path):
    ramp = (np.arange(SIZE * SIZE).reshape(SIZE, SIZE) * 1000 - 50_000).astype(kind)
    got = read_image(saved(tmp_path / "a.tif", Image.fromarray(ramp)), SIZE)
    expected = np.arange(SIZE * SIZE).reshape(SIZE, SIZE) / (SIZE * SIZE - 1) * 255
    assert np.abs(got[..., 0] - expected).max() <= 0.5


def test_a_bar_is_shown_for_many_images_only(tree, monkeypatch):
    shown = []

    def bar(images, what, total, unit):
        shown.append(what)
        return images

    monkeypatch.setattr(folder_module, "track", bar)
    Domain.from_folder(tree, size=SIZE)
    assert not shown
    monkeypatch.setattr(folder_module, "BAR_FROM", 3)
    Domain.from_folder(tree, size=SIZE)
    assert shown == ["own train", "own val", "own test"]
    assert all("disable" not in options for options in shown)  # left to TQDM_DISABLE


def _half_a_png() -> bytes:
    data = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(data, "PNG")
    return data.getvalue()[: len(data.getvalue()) // 2]


def _one_class_only(tree):
    for split in SPLITS:
        for name in CLASSES[1:]:
            shutil.rmtree(tree / split / name)


def _two_spellings(tree):
    try:
        for name in ("caf\u00e9", "cafe\u0301"):
            (tree / "train" / name).mkdir()
    except FileExistsError:
        pytest.skip("to this file system, as to that of macOS, both are one name")


def _no_class(tree):
    shutil.rmtree(tree / "val")
    (tree / "val").mkdir()


def _empty_class(tree):
    for file in (tree / "test" / "ant").rglob("*.*"):
        file.unlink()
    (tree / "test" / "ant" / "notes.txt").write_text("no image")


def _fewer_classes(tree):
    for name in CLASSES[:4]:
        shutil.rmtree(tree / "val" / name)


def _extra_class(tree):
    (tree / "test" / "wasp").mkdir()
    Image.new("L", (4, 4)).save(tree / "test" / "wasp" / "x.png")


BAD = {
    "no such folder": (shutil.rmtree, ["There is no folder", "own", "train/"]),
    "a file": (lambda tree: (shutil.rmtree(tree), tree.write_text("x")), ["own is a file, not a folder"]),
    "no val": (lambda tree: shutil.rmtree(tree / "val"), ["no folder val, only test, train:", "val/CLASS/IMAGE"]),
    "no val, no test": (
        lambda tree: (shutil.rmtree(tree / "val"), shutil.rmtree(tree / "test")),
        ["no folder val and no folder test, only train:"],
    ),
    "other names": (
        lambda tree: ((tree / "val").rename(tree / "Validation"), (tree / "test").rename(tree / "testing")),
        ["no folder val and no folder test, but Validation, testing: rename Validation to val and testing to test."],
    ),
    "one folder too high": (
        lambda tree: shutil.move(tree, tree.parent / "x") and shutil.move(tree.parent / "x", tree / "photos"),
        ["no folder train", "but photos has: give", "own/photos."],
    ),
    "other capitals": (
        lambda tree: (tree / "val" / "ant").rename(tree / "val" / "Ant"),
        ["val lacks class folders that train has (ant) and has class folders that train lacks (Ant)"],
    ),
    "one folder for two classes": (
        lambda tree: (tree / "train" / "bee").symlink_to("ant"),
        ["train/bee is the folder of the class 'ant' too"],
    ),
    "two spellings of one name": (
        _two_spellings,
        ["train has two class folders 'caf\u00e9'"],
    ),
    "no class folders": (_no_class, ["val has no class folders"]),
    "empty class": (_empty_class, ["test/ant has no images", "only notes.txt"]),
    "one class": (_one_class_only, ["train has one class only (Zebra)"]),
    "class lacking": (_fewer_classes, ["val lacks", "10, Zebra, ant and 1 more"]),
    "class too many": (_extra_class, ["test has", "train lacks", "wasp"]),
    "loose image": (lambda tree: Image.new("L", (4, 4)).save(tree / "train" / "x.png"), ["train has images", "x.png"]),
    "not an image": (
        lambda tree: (tree / "val" / "ant" / "b.png").write_text("x"),
        ["val/ant/b.png cannot be read", "no format"],
    ),
    "no bytes": (
        lambda tree: (tree / "val" / "ant" / "b.png").write_bytes(b""),
        ["val/ant/b.png cannot be read", "empty"],
    ),
    "truncated": (
        lambda tree: (tree / "test" / "9" / "b.png").write_bytes(_half_a_png()),
        ["test/9/b.png", "truncated"],
    ),
}


@pytest.mark.parametrize("case", list(BAD))
def test_bad_input_is_one_sentence_that_names_it(case, tree):
    spoil, words = BAD[case]
    spoil(tree)
    with pytest.raises(MadlabError) as caught:
        Domain.from_folder(tree, size=SIZE)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message.replace("\\", "/")


@pytest.mark.parametrize("path", [None, 3, b"photos", "x" * 5000, "null\0byte", "half\ud800", ""])
def test_what_is_no_path_of_a_folder_is_told(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MadlabError, match=r"is not a folder: give|There is no folder|cannot be opened|has no folder"):
        Domain.from_folder(path)


@pytest.mark.parametrize("size", [0, -3, 36.5, "36", None, True])
def test_a_size_that_is_no_number_of_pixels_is_refused(tree, size):
    with pytest.raises(MadlabError, match="at least 1"):
        Domain.from_folder(tree, size=size)


def files_of(domain):
    return {name: len(getattr(domain, name)) for name in SPLITS}


def test_what_pillow_can_open_is_read_whatever_its_name(tree):
    """Each new file is a flat picture of its own colour; JPEG, GIF and AVIF keep it to a few steps."""
    before = files_of(quietly(tree))
    colours = {"x.jfif": "JPEG", "x.gif": "GIF", "x.webp": "WEBP", "x.dat": "PNG", "no ending": "BMP", "x.txt": "TIFF"}
    colours |= {"wrong.jpg": "PNG", "wrong.png": "GIF"} | ({"x.avif": "AVIF"} if features.check("avif") else {})
    for number, (name, kind) in enumerate(colours.items()):
        Image.fromarray(painted(colour=(20 * number, 60, 200))).save(tree / "val" / "ant" / name, kind)
    after = quietly(tree)
    assert files_of(after) == before | {"val": before["val"] + len(colours)}
    shades = {
        round(image[..., 0].float().mean().item() / 20) for image in after.val.images if image[..., 0].float().std() < 3
    }
    assert shades == set(range(len(colours)))


def quietly(tree):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MadlabWarning)
        return Domain.from_folder(tree, size=SIZE)


def warned(tree):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        Domain.from_folder(tree, size=SIZE)
    assert all(warning.category is MadlabWarning and "\n" not in str(warning.message) for warning in caught)
    assert all(warning.filename == __file__ for warning in caught)  # it points at whoever reads the folder
    return [str(warning.message) for warning in caught]


@pytest.fixture
def flat(tree):
    """The good folder without its deeper folders, about which nothing needs to be said."""
    for split in SPLITS:
        for name in CLASSES:
            shutil.rmtree(tree / split / name / "deeper")
    return tree


def test_nothing_is_said_about_a_good_folder(flat):
    for name in (".hidden", "._x.png", "__MACOSX", "@eaDir", "lost+found"):
        (flat / "train" / "ant" / name).mkdir()
    (flat / "train" / "__MACOSX").mkdir()
    Image.fromarray(painted()).save(flat / "train" / "ant" / "@eaDir" / "thumbnail.jpg")
    (flat / "train" / "ant" / "Thumbs.db").write_bytes(b"no image")
    assert warned(flat) == []


def test_what_is_left_out_is_named_and_counted(flat):
    for name in ("train/ant/notes.txt", "train/list.csv", "val/9/drawing.eps", "test/9/film.mpg", "test/9/x.heic"):
        (flat / name).write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n" if name.endswith("eps") else b"no image")
    os.mkfifo(flat / "test/9/pipe.png")
    (told,) = warned(flat)
    assert "6 entries are left out" in told
    assert "in no format that Pillow can read (test/9/film.mpg, test/9/pipe.png, test/9/x.heic and 3 more)" in told


def test_what_lies_beside_the_splits_is_named(flat):
    shutil.copytree(flat / "train", flat / "unlabelled")
    (flat / "README.md").write_text("no image")
    (told,) = warned(flat)
    assert "1 entry is left out, being outside of train, val and test (unlabelled)" in told


def test_accents_that_a_file_system_takes_apart_make_no_other_class(flat):
    """HFS+ stores é as e and an accent."""
    for split, name in zip(SPLITS, ("caf\u00e9", "cafe\u0301", "cafe\u0301"), strict=True):
        (flat / split / "ant").rename(flat / split / name)
    domain = Domain.from_folder(flat, size=SIZE)
    assert "caf\u00e9" in domain.class_names and len(domain.class_names) == 5
    assert warned(flat) == []


def test_classes_that_differ_in_capitals_only_are_named(flat):
    for split in SPLITS:
        (flat / split / "bee 2").rename(flat / split / "Ant")
    (told,) = warned(flat)
    assert "'Ant' and 'ant'" in told and len(Domain.from_folder(flat, size=SIZE).class_names) == 5


def test_an_image_in_two_splits_is_named_whatever_it_is_called(flat):
    shutil.copy(flat / "train" / "ant" / "b.png", flat / "val" / "9" / "other.png")
    Image.open(flat / "val" / "Zebra" / "b.png").save(flat / "test" / "10" / "same.tif")
    val, test = warned(flat)
    assert "1 of the 11 images in val look" in val and "(val/9/other.png)" in val
    assert "images in test" in test and "(test/10/same.tif)" in test


def test_a_link_that_leads_nowhere_is_named(flat):
    (flat / "train" / "ant" / "gone").symlink_to("nowhere")
    (flat / "train" / "wasp").symlink_to("nowhere")
    (flat / "list.txt").write_text("no image")
    (flat / "train" / "list").symlink_to("../list.txt")
    nowhere, no_image = sorted(warned(flat), reverse=True, key=lambda told: "leads nowhere" in told)
    assert "2 entries are left out, being a link that leads nowhere" in nowhere and "(train/list)" in no_image


def test_a_link_to_another_class_is_not_followed(flat):
    before = files_of(quietly(flat))
    (flat / "train" / "9" / "link").symlink_to("../ant")
    assert files_of(quietly(flat)) == before
    assert "(train/9/link)" in warned(flat)[0]


def test_folders_inside_of_class_folders_are_named(flat):
    poodle = flat / "train" / "ant" / "poodle"
    poodle.mkdir()
    Image.fromarray(painted()).save(poodle / "x.png")
    (told,) = warned(flat)
    assert "no classes of their own" in told and "(train/ant/poodle)" in told
    assert "poodle" not in Domain.from_folder(flat, size=SIZE).class_names


@pytest.mark.parametrize("target", ["..", "../..", "../../..", ".", "deep/deeper"])
def test_links_that_lead_back_are_followed_once(flat, target):
    """A class with a link to one of its parents, or two ways to one folder: every image comes once."""
    before = files_of(quietly(flat))
    deep = flat / "train" / "ant" / "deep" / "deeper"
    deep.mkdir(parents=True)
    Image.fromarray(painted()).save(deep / "x.png")
    (flat / "train" / "ant" / "link").symlink_to(target)
    assert files_of(quietly(flat)) == before | {"train": before["train"] + 1}
    assert any("1 entry is left out" in told and "train/ant/" in told for told in warned(flat))


def test_a_link_back_in_the_place_of_a_class_is_no_class(flat):
    (flat / "train" / "loop").symlink_to("..")
    assert quietly(flat).class_names == sorted(CLASSES)
    assert any("train/loop" in told for told in warned(flat))


def test_links_to_images_and_folders_elsewhere_are_followed(flat, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    shutil.move(flat / "train" / "ant", elsewhere)
    (flat / "train" / "ant").symlink_to(elsewhere)
    (flat / "val" / "ant" / "z.png").symlink_to(elsewhere / "b.png")
    domain = Domain.from_folder(flat, size=SIZE)
    assert len(domain.train) == 10 and len(domain.val) == 11
    (told,) = warned(flat)
    assert "images in val look exactly like one in an earlier split (val/ant/z.png)" in told


def test_all_broken_images_are_counted(flat):
    for number, name in enumerate(["train/ant/b.png", "train/9/A.PNG", "val/10/b.png", "test/9/b.png"]):
        (flat / name).write_bytes(b"broken" if number % 2 else b"")
    (flat / "test/ant/gone.jpg").symlink_to("nowhere.jpg")
    with pytest.raises(MadlabError) as caught:
        Domain.from_folder(flat, size=SIZE)
    message = str(caught.value)
    assert "5 images" in message and "\n" not in message
    assert "test/9/b.png, test/ant/gone.jpg, train/9/A.PNG and 2 more" in message


def deep_folder(path, values, kind=np.uint16, ending="png"):
    """Two classes, each split with one image of a class: grey of one value, from `values` in turn."""
    values = iter(values)
    for split in SPLITS:
        for name in ("a", "b"):
            (path / split / name).mkdir(parents=True)
            grey = np.full((SIZE, SIZE), next(values)).astype(kind)
            Image.fromarray(grey).save(path / split / name / f"x.{ending}")
    return path


DEPTHS = {
    "12 bits": ([0, 100, 4095, 2048, 1, 30], np.uint16, "png", 4095, "4095 white (12 bits)"),
    "10 bits": ([0, 100, 1000, 300, 1, 30], np.uint16, "png", 1023, "(10 bits)"),
    "16 bits": ([0, 30000, 40000, 2048, 1, 30], np.uint16, "png", 65535, "(16 bits)"),
    "8 bits in 16": ([0, 100, 250, 130, 1, 30], np.uint16, "png", 255, "(8 bits)"),
    "labels in 32 bits": ([0, 1, 2, 3, 20, 5], np.int32, "tif", 31, "(5 bits)"),
    "many labels": ([0, 1 << 20, 90_000, 3, 20, 5], np.int32, "tif", 2**24 - 1, "(24 bits)"),
    "floats from 0 to 1": ([0, 0.25, 0.8, 0.5, 0.1, 0.3], np.float32, "tif", 1, "1 white"),
    "whole floats": ([0, 100, 4095, 2048, 1, 30], np.float32, "tif", 4095, "(12 bits)"),
}


@pytest.mark.parametrize("kind", DEPTHS)
def test_deep_greys_are_scaled_alike_and_with_a_word(kind, tmp_path):
    values, dtype, ending, white, words = DEPTHS[kind]
    folder = deep_folder(tmp_path / "deep", values, dtype, ending)
    domain = quietly(folder)
    shown = [int(image[0, 0, 0]) for split in SPLITS for image in getattr(domain, split).images]
    assert shown == pytest.approx([255 * value / white for value in values], abs=0.501)
    told = warned(folder)[0]
    assert "grey images of more than 8 bits (6)" in told and words in told


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_deep_greys_without_a_depth_share_the_range_of_the_folder(dtype, tmp_path):
    values = [-50, 0, 100, 150, 25, 50]
    domain = quietly(deep_folder(tmp_path / "deep", values, dtype, "tif"))
    shown = [int(image[0, 0, 0]) for split in SPLITS for image in getattr(domain, split).images]
    assert shown == pytest.approx([255 * (value + 50) / 200 for value in values], abs=0.501)


def test_only_the_deep_images_of_a_mixed_folder_are_scaled(tmp_path):
    folder = deep_folder(tmp_path / "mixed", [0, 100, 4095, 2048, 1, 30])
    Image.fromarray(painted(colour=(10, 60, 200))).save(folder / "val" / "a" / "colour.png")
    domain = quietly(folder)
    assert domain.val.images[0, 0, 0].tolist() == [10, 60, 200]
    assert domain.val.images[1, 0, 0].tolist() == [255, 255, 255]


def test_not_a_number_in_a_float_image_is_told(tmp_path):
    folder = deep_folder(tmp_path / "deep", [0, 1, np.nan, 1, 0, 1], np.float32, "tif")
    with pytest.raises(MadlabError, match=r"val/a/x.tif cannot be read .*not all numbers"):
        Domain.from_folder(folder, size=SIZE)


def sixteen_bit_colours(value):
    """A PNG of 16-bit RGB, which Pillow does not write: header, rows of 'no filter', and checksums, by hand."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = (b"\0" + struct.pack(">H", value) * 3 * SIZE) * SIZE
    header = struct.pack(">IIBBBBB", SIZE, SIZE, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_12_bit_colours_are_dark_but_not_without_a_word(flat):
    (flat / "train" / "ant" / "deep.png").write_bytes(sixteen_bit_colours(4000))
    (told,) = warned(flat)
    assert "colour images of 16 bits (1)" in told and "deep.png" in told


def test_a_folder_of_its_own_name_needs_one(tmp_path, monkeypatch):
    monkeypatch.chdir(deep_folder(tmp_path / "here", range(6)))
    assert quietly(".").name == "here"


def test_large_images_are_decoded_one_at_a_time(flat, monkeypatch):
    """Several side by side may not fit into memory; small ones do not wait for each other."""
    running, most = [], []
    cut = pictures._cut

    def slow(*arguments):
        running.append(1)
        time.sleep(0.005)
        most.append(len(running))
        running.pop()
        return cut(*arguments)

    monkeypatch.setattr(pictures, "_cut", slow)
    monkeypatch.setattr(folder_module.os, "cpu_count", lambda: 8)
    monkeypatch.setattr(pictures, "LARGE", SIZE * SIZE - 1)
    Domain.from_folder(flat, size=SIZE)
    assert max(most) == 1
    most.clear()
    monkeypatch.setattr(pictures, "LARGE", SIZE * SIZE)
    Domain.from_folder(flat, size=SIZE)
    assert max(most) > 1
