"""Own image folders, against Pillow-made pictures whose pixels are known and torchvision's ImageFolder."""

import io
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import ImageFolder

from madlab.benchmarks import folder as folder_module
from madlab.benchmarks.domain import SPLITS, Domain
from madlab.benchmarks.images import read_image
from madlab.errors import MadlabError

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

    def bar(images, **options):
        shown.append(options)
        return images

    monkeypatch.setattr(folder_module, "tqdm", bar)
    Domain.from_folder(tree, size=SIZE)
    assert not shown
    monkeypatch.setattr(folder_module, "BAR_FROM", 3)
    Domain.from_folder(tree, size=SIZE)
    assert [options["desc"] for options in shown] == ["own train", "own val", "own test"]
    assert all("disable" not in options for options in shown)  # left to TQDM_DISABLE


def _half_a_png() -> bytes:
    data = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(data, "PNG")
    return data.getvalue()[: len(data.getvalue()) // 2]


def _one_class_only(tree):
    for split in SPLITS:
        for name in CLASSES[1:]:
            shutil.rmtree(tree / split / name)


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
    "a file": (lambda tree: (shutil.rmtree(tree), tree.write_text("x")), ["There is no folder", "own"]),
    "no val": (lambda tree: shutil.rmtree(tree / "val"), ["no folder val:", "val/CLASS/IMAGE"]),
    "no val, no test": (
        lambda tree: (shutil.rmtree(tree / "val"), shutil.rmtree(tree / "test")),
        ["no folder val and no folder test:"],
    ),
    "no class folders": (_no_class, ["val has no class folders"]),
    "empty class": (_empty_class, ["test/ant has no images", "only notes.txt"]),
    "one class": (_one_class_only, ["train has one class only (Zebra)"]),
    "class lacking": (_fewer_classes, ["val lacks", "10, Zebra, ant and 1 more"]),
    "class too many": (_extra_class, ["test has", "train lacks", "wasp"]),
    "loose image": (lambda tree: Image.new("L", (4, 4)).save(tree / "train" / "x.png"), ["train has images", "x.png"]),
    "not an image": (lambda tree: (tree / "val" / "ant" / "b.png").write_text("x"), ["val/ant/b.png cannot be read"]),
    "no bytes": (lambda tree: (tree / "val" / "ant" / "b.png").write_bytes(b""), ["val/ant/b.png cannot be read"]),
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


def test_a_size_below_one_pixel_is_refused(tree):
    with pytest.raises(MadlabError, match="at least 1"):
        Domain.from_folder(tree, size=0)
