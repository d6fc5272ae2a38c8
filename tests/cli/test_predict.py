"""`madlab predict`: rows that other programs read, whatever files are called and however many are broken."""

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from tiny import write_base, write_folder

import madlab
from madlab import cli


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("predict")
    write_folder(root / "shades", counts=(8, 4, 3))
    base = write_base(root / "small.safetensors")
    madlab.train(root / "shades", base=base, out=root / "run", epochs=1, progress=False, device="cpu")
    return root


def predict(capsys: pytest.CaptureFixture[str], place: Path, *options: object) -> tuple[int, str, str]:
    capsys.readouterr()
    code = cli.main(["predict", str(place / "run"), *map(str, options)])
    return code, *capsys.readouterr()


def test_a_folder_as_csv_is_what_python_says(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = predict(capsys, place, place / "shades" / "test", "--top", 2)
    rows = list(csv.DictReader(io.StringIO(out)))
    files = sorted((place / "shades" / "test").rglob("*.png"))
    assert code == 0 and [row["file"] for row in rows] == [str(file) for file in files]
    for row, guesses in zip(rows, madlab.load_run(place / "run").predict(files, top=2), strict=True):
        assert [row["class_1"], row["class_2"]] == [guess.name for guess in guesses]
        assert [float(row["probability_1"]), float(row["probability_2"])] == pytest.approx(
            [guess.probability for guess in guesses], abs=1e-5
        )


def test_json_lines_have_every_class_where_there_are_few(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = predict(capsys, place, place / "shades" / "val", "--format", "jsonl", "--top", 9)
    lines = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and len(lines) == 12
    for line in lines:
        assert sorted(one["name"] for one in line["classes"]) == ["class0", "class1", "class2"]
        assert sum(one["probability"] for one in line["classes"]) == pytest.approx(1, abs=1e-5)


def test_what_cannot_be_read_is_named_at_the_end_and_the_others_are_predicted(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = place / "shades" / "test" / "class0" / "0.png"
    (tmp_path / "mixed").mkdir()
    (tmp_path / "mixed" / "a broken.jpg").write_bytes(good.read_bytes()[:60])
    (tmp_path / "mixed" / "b.png").write_bytes(good.read_bytes())
    (tmp_path / "mixed" / "notes.txt").write_text("no image, and not taken for one")
    (tmp_path / "empty").mkdir()
    code, out, err = predict(capsys, place, tmp_path / "mixed", tmp_path / "absent.png", tmp_path / "empty")
    assert code == 2 and [row["file"] for row in csv.DictReader(io.StringIO(out))] == [str(tmp_path / "mixed/b.png")]
    assert err.count("\n") == 5 and "madlab: 3 of what was asked for could not be read:" in err
    assert "mixed: 1 entry is left out, being in no format that Pillow can read (notes.txt)." in err
    assert "a broken.jpg cannot be read" in err and "There is no image" in err and "empty has no images" in err


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no FIFOs")
def test_a_pipe_is_not_waited_for(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    code, _, err = predict(capsys, place, tmp_path / "pipe.png")
    assert code == 2 and "pipe.png cannot be read as an image (it is not a plain file)" in err


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
@pytest.mark.parametrize("name", ["\x1b[2J.png", "two\nlines.png", 'com,ma "q".png', os.fsdecode(b"\xff.png")])
def test_any_name_is_one_printable_row(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    try:
        Image.new("RGB", (40, 40)).save(tmp_path / name)
    except OSError:
        pytest.skip("this file system does not take that name")
    for kind in ("csv", "jsonl"):
        code, out, err = predict(capsys, place, tmp_path, "--format", kind)
        assert (code, err) == (0, "") and out.replace("\n", "").isprintable()
        assert out.count("\n") == (2 if kind == "csv" else 1)
    assert json.loads(out)["file"] == str(tmp_path / name)


@pytest.mark.parametrize("name", ["at 9.41\u202fAM", "a\u00a0b", "\u6587\u3000\u5b57", "\u0645\u06cc\u200c\u0631"])
def test_csv_keeps_names_with_unusual_spaces_and_joiners(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """As macOS writes times, and as Japanese, Persian and many other languages are written."""
    Image.new("RGB", (40, 40)).save(tmp_path / f"{name}.png")
    _, out, _ = predict(capsys, place, tmp_path)
    assert [row["file"] for row in csv.DictReader(io.StringIO(out))] == [str(tmp_path / f"{name}.png")]


@pytest.mark.slow
def test_a_list_on_standard_input(place: Path, tmp_path: Path) -> None:
    files = sorted((place / "shades" / "test").rglob("*.png"))[:3]
    listed = b"\r\n".join(os.fsencode(file) for file in files) + b"\n\n"
    command = [sys.executable, "-m", "madlab", "predict", str(place / "run"), "-", "--format", "jsonl"]
    done = subprocess.run(command, input=listed, capture_output=True, check=True)
    assert [json.loads(line)["file"] for line in done.stdout.splitlines()] == [str(file) for file in files]
    nothing = subprocess.run(command, input=b"\n", capture_output=True)
    assert nothing.returncode == 2 and b"names no file" in nothing.stderr


@pytest.mark.slow
def test_a_reader_that_goes_away_is_no_error_to_talk_about(place: Path) -> None:
    shell = f"{sys.executable} -m madlab predict {place / 'run'} {place / 'shades'} | head -n 1"
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {shell}"], capture_output=True, text=True)
    assert done.returncode in (0, 141) and done.stderr == "" and done.stdout.startswith("file,class_1")


def test_a_name_that_is_too_long_is_told_and_the_others_are_predicted(place: Path, capsys, monkeypatch) -> None:
    image = next((place / "shades" / "test").rglob("*.png"))
    listed = io.TextIOWrapper(io.BytesIO(f"{'a' * 300}\n{image}\n".encode()))
    monkeypatch.setattr(sys, "stdin", listed)
    code, out, err = predict(capsys, place, "-")
    assert code == 2 and str(image) in out and "aaa" in err


def test_wrong_calls_are_one_sentence(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for options in (["--top", "0", place], ["--format", "xml", place], []):
        code, out, err = predict(capsys, place, *options)
        assert code == 2 and out == "" and err.count("\n") == 1
    assert cli.main(["predict", str(place / "no run"), str(place)]) == 2
