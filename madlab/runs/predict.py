"""The classes of many image files, as `madlab predict` prints them: one by one, past those that cannot be read."""

import csv
import io
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from madlab.benchmarks.listing import NO_IMAGE, NO_WAY, left_out
from madlab.benchmarks.walk import files_below
from madlab.errors import STEERING, MadlabError, remark
from madlab.files.pictures import is_image, read_image
from madlab.prediction import BATCH, Guess, prepared_size, probabilities, top_classes
from madlab.runs.loaded import LoadedRun


def image_files(places: Iterable[Path]) -> tuple[list[Path], list[MadlabError]]:
    """The files to read, and why some places have none. Of a folder, its images at any depth, in sorted order.

    A warning names what else a folder has, as cameras write formats that Pillow cannot read.
    """
    files: list[Path] = []
    failures: list[MadlabError] = []
    for place in places:
        if not os.path.isdir(place):  # unlike Path.is_dir, no error for a name that is too long
            files.append(place)  # whatever it is: reading it tells what is wrong
            continue
        try:
            below, not_followed = files_below(place)
            found = [file for file in below if is_image(file)]
        except OSError as error:
            failures.append(MadlabError(f"{error.filename} cannot be opened ({error.strerror}): make it readable."))
            continue
        for reason, others in ((NO_IMAGE, sorted({*below} - {*found})), (NO_WAY, not_followed)):
            if others:
                remark(left_out(place, others, reason))
        if not found:
            failures.append(MadlabError(f"The folder {place} has no images: give one that has some."))
        files += found
    return files, failures


def predict_files(run: LoadedRun, files: Sequence[Path], top: int) -> Iterator[tuple[Path, list[Guess] | MadlabError]]:
    """For each file its `top` most probable classes, or why it cannot be read; a batch is read when it is needed."""
    view = run.net.view(run.domain)
    size = prepared_size(view)

    def read(file: Path) -> np.ndarray | MadlabError:
        try:
            return read_image(file, size.resize, view.facts.squash, grey=view.facts.grey_scale)
        except MadlabError as error:
            return error

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
        for start in range(0, len(files), BATCH):
            some = files[start : start + BATCH]
            pictures = list(threads.map(read, some))
            squares = [picture for picture in pictures if isinstance(picture, np.ndarray)]
            rows = iter(probabilities(view, np.stack(squares), size.crop) if squares else ())
            for file, picture in zip(some, pictures, strict=True):
                if isinstance(picture, MadlabError):
                    yield file, picture
                else:
                    yield file, top_classes(next(rows), run.class_names, top)


def heading(kind: str, top: int) -> list[str]:
    """The lines before the first prediction: of CSV the names of the columns, of JSON lines none."""
    columns = [f"{what}_{place}" for place in range(1, top + 1) for what in ("class", "probability")]
    return [_csv(["file", *columns])] if kind == "csv" else []


def line_of(kind: str, file: Path, guesses: Sequence[Guess]) -> str:
    """One prediction as a line of "csv" or "jsonl".

    In CSV line breaks, other control characters, marks that change the direction of writing and what is not Unicode are
    escaped, so that a line is a line and cannot steer the terminal; JSON escapes whatever is not ASCII.
    """
    if kind == "csv":
        return _csv([str(file), *(cell for guess in guesses for cell in (guess.name, f"{guess.probability:.6f}"))])
    classes = [{"name": guess.name, "probability": round(guess.probability, 6)} for guess in guesses]
    return json.dumps({"file": str(file), "classes": classes})


def _csv(cells: Sequence[str]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow([STEERING.sub(_escaped, cell) for cell in cells])
    return line.getvalue()


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")
