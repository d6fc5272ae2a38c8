"""A folder of images as they come from phones, to try what somebody tries who has only just found madlab.

    python data_scripts/photographs.py data/dtd10 OUT

OUT/photos/CLASS gets 200 photographs of four classes: several sizes, upright and across, stored turned or mirrored as
their EXIF orientation says, as JPEG, PNG and WebP under all the endings that such files have. The last class has seven,
one file is cut off in the middle, and the file managers of three systems have left their traces. OUT/new gets two more
of each class. The pictures are taken from a folder of class folders, at any depth. The walk that is tried with it
stands in notebooks/site/own_images.md.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

CLASSES, IMAGES, RARE, NEW = 4, 200, 7, 2
SIZES = ((1600, 1200), (1200, 1600), (1920, 1080), (1080, 1080), (640, 480), (480, 853))
"""Width and height in pixels, as the photograph is looked at."""
ENDINGS = (".jpg", ".JPG", ".jpeg", ".JPEG", ".jfif", ".jpe", ".png", ".webp")
FORMATS = {".png": "PNG", ".webp": "WEBP"}
ORIENTATION, MAKE, TAKEN = 0x0112, 0x010F, 0x0132
STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""EXIF orientation -> how the pixels of an upright picture are stored under it."""
TRACES = {".DS_Store": b"\0\0\0\1Bud1", "Thumbs.db": b"\xd0\xcf\x11\xe0", "desktop.ini": b"[.ShellClassInfo]\r\n"}


def photograph(picture: Image.Image, place: Path, size: tuple[int, int], orientation: int, number: int) -> None:
    """Write a picture as a phone would: scaled to a size, stored as its EXIF orientation says, with a maker and a date.

    place: without an ending; one of ENDINGS is added by `number`.
    """
    upright = ImageOps.fit(picture.convert("RGB"), size, Image.Resampling.BICUBIC)
    stored = upright if (turn := STORED[orientation]) is None else upright.transpose(turn)
    exif = Image.Exif()
    exif[ORIENTATION], exif[MAKE], exif[TAKEN] = orientation, "Phone", f"2026:05:{1 + number % 28:02d} 10:11:12"
    ending = ENDINGS[number % len(ENDINGS)]
    stored.save(place.with_name(place.name + ending), FORMATS.get(ending, "JPEG"), exif=exif, quality=85)


def make(
    classes: dict[str, list[Path]],
    out: Path,
    images: int = IMAGES,
    sizes: Sequence[tuple[int, int]] = SIZES,
    seed: int = 0,
) -> None:
    """Write OUT/photos and OUT/new from the pictures of each class; the last class is the rare one."""
    rng = np.random.default_rng(seed)
    *common, rare = classes
    shares = np.array_split(range(images - RARE), len(common))
    counts = dict(zip(common, map(len, shares), strict=True)) | {rare: RARE}
    (out / "new").mkdir(parents=True)
    taken = 0
    for name, count in counts.items():
        (out / "photos" / name).mkdir(parents=True)
        chosen = rng.choice(len(classes[name]), count + NEW, replace=False)
        for place, file in enumerate(classes[name][k] for k in chosen):
            folder = out / "photos" / name if place < count else out / "new"
            with Image.open(file) as picture:
                size, orientation = sizes[int(rng.integers(len(sizes)))], int(rng.integers(1, 9))
                photograph(picture, folder / f"IMG_{4000 + taken}", size, orientation, taken)
            taken += 1
    cut_off(min((out / "photos" / common[0]).iterdir()))
    for name, content in TRACES.items():
        (out / "photos" / name).write_bytes(content)
        (out / "photos" / common[0] / name).write_bytes(content)


def cut_off(file: Path) -> None:
    """Leave the first half of a file, as a copy that was interrupted does."""
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


def classes_below(folder: Path) -> dict[str, list[Path]]:
    """The first classes of a folder with a folder per class, or with such folders for each split, and their files."""
    found: dict[str, list[Path]] = {}
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        found.setdefault(file.parent.name, []).append(file)
    return dict(sorted(found.items())[:CLASSES])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path, help="a folder with a folder per class")
    parser.add_argument("out", type=Path, help="where photos/ and new/ go")
    options = parser.parse_args()
    make(classes_below(options.pictures), options.out)


if __name__ == "__main__":
    main()
