"""Whether an image folder is laid out as train/ val/ test/, and, where it is not, what it probably has instead."""

from pathlib import Path

from madlab.benchmarks.split import SPLITS
from madlab.errors import MadlabError
from madlab.files.text import some

OTHER_NAMES = {
    "train": {"train", "training", "trainset", "train_set"},
    "val": {"val", "valid", "validation", "dev", "eval"},
    "test": {"test", "testing", "tests", "testset", "test_set"},
}
LAYOUT = (
    "lay it out as train/CLASS/IMAGE, val/CLASS/IMAGE and test/CLASS/IMAGE, with the same class folders in all three, "
    "or have a folder of class folders split (--split 70/15/15)"
)


def check_layout(folder: Path) -> None:
    """Raise MadlabError, which names what was found and what to do, unless train/ val/ test/ are there; or OSError."""
    if not folder.is_dir():
        if folder.exists():
            raise MadlabError(f"{folder} is a file, not a folder: give one that holds train/, val/ and test/.")
        raise MadlabError(f"There is no folder {folder}: give one that holds train/, val/ and test/.")
    found = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
    if missing := [split for split in SPLITS if split not in found]:
        raise MadlabError(f"{folder} has no folder {' and no folder '.join(missing)}{_hint(folder, found, missing)}.")


def _hint(folder: Path, found: list[str], missing: list[str]) -> str:
    """The rest of the sentence: the most probable reason, and what helps."""
    renamed = {name: split for split in missing for name in found if name.lower() in OTHER_NAMES[split]}
    if renamed:
        told = " and ".join(f"{name} to {split}" for name, split in renamed.items())
        return f", but {some(renamed)}: rename {told}"
    whole = [name for name in found if all((folder / name / split).is_dir() for split in SPLITS)]
    if len(whole) == 1:
        return f", but {whole[0]} has: give {folder / whole[0]}"
    parent = folder.resolve().parent
    if all((parent / split).is_dir() for split in SPLITS):
        return f", but the folder around it has: give {parent}"
    return f"{f', only {some(found)}' if found else ''}: {LAYOUT}"
