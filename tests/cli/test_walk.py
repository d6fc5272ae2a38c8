"""What the page on one's own images promises: its commands as they stand there, on photographs as phones make them."""

import csv
import importlib.util
import io
import re
import shlex
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest
from notebook_tools import REPOSITORY
from PIL import Image, ImageOps

from madlab.cli import main

ROOT = Path(__file__).parents[2]
COLOURS = {"ash": (120, 120, 120), "beech": (200, 90, 60), "cedar": (60, 160, 70), "oak": (70, 90, 200)}
COMMANDS, CODE = re.findall(r"```(?:python)?\n(.*?)```", (ROOT / "notebooks/site/own_images.md").read_text(), re.S)[:2]


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """photos/ and new/ as data_scripts/photographs.py makes them, of clouds in the colours of four classes."""
    place, rng = tmp_path_factory.mktemp("walk"), np.random.default_rng(0)
    spec = importlib.util.spec_from_file_location("photographs", ROOT / "data_scripts" / "photographs.py")
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    for name, colour in COLOURS.items():
        (place / "drawn" / name).mkdir(parents=True)
        for number in range(20):
            cloud = (rng.integers(-50, 50, (5, 5, 1)) + colour).clip(0, 255).astype(np.uint8)
            Image.fromarray(cloud).resize((64, 64)).save(place / "drawn" / name / f"{number}.png")
    script.make(script.classes_below(place / "drawn"), place, images=52, sizes=((160, 120), (90, 160), (64, 64)))
    return place


def test_photographs_are_what_a_phone_makes(photographs: Path) -> None:
    files = list((photographs / "photos").rglob("IMG_*"))
    assert len(files) == 52 and len(list((photographs / "photos" / "oak").iterdir())) == 7
    assert {path.suffix.lower() for path in files} >= {".jpg", ".jpeg", ".jfif", ".jpe", ".png", ".webp"}
    whole = [Image.open(path) for path in files if path.name != "IMG_4000.jpg"]
    assert {image.getexif().get(0x0112) for image in whole} >= {1, 3, 6, 8}
    assert {ImageOps.exif_transpose(image).size for image in whole} == {(160, 120), (90, 160), (64, 64)}
    assert len({path.parent.name for path in files}) == 4 and len(list((photographs / "new").iterdir())) == 8


@pytest.mark.slow
def test_five_commands_lead_to_a_page_and_to_a_file_that_onnxruntime_answers(
    photographs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is in the extra 'export'")
    monkeypatch.chdir(photographs)
    install, *commands = COMMANDS.strip().splitlines()
    assert install == f'pip install "madlab[export] @ git+https://github.com/{REPOSITORY}"' and len(commands) == 4
    for command in commands:
        program, *arguments = shlex.split(command.partition(" > ")[0])
        assert program == "madlab" and main(arguments) == 0, command
        told = capsys.readouterr()
        if "train" in arguments:
            assert "of 52 images 1 cannot be read and is left out (IMG_4000.jpg)" in told.err
            assert "balanced" in told.out and "95 % confidence" in told.out
        if "predict" in arguments:
            answers = {row["file"]: row["class_1"] for row in csv.DictReader(io.StringIO(told.out))}
    # 15 photographs of each common class and 7 of the rare one, each followed by two for new/.
    known = {file: list(COLOURS)[(int(re.findall(r"\d+", file)[0]) - 4000) // 17] for file in answers}
    assert len(known) == 8 and sum(answers[file] == name for file, name in known.items()) >= 6
    assert "<img" in Path("runs/photos/inspect.html").read_text()
    with redirect_stdout(io.StringIO()) as printed:
        exec(CODE, {})
    assert dict(line.split() for line in printed.getvalue().splitlines()) == answers
