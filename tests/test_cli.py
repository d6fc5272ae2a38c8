"""The command line: what it prints, its exit codes, and one sentence for everything that is wrong with the input."""

import json
import re
import shutil
import subprocess
import sys

import pytest
import tiny
from PIL import Image

from madlab import cli


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("cli")
    tiny.write_folder(root / "noise")
    tiny.write_base(root / "small.safetensors")
    tiny.write_base(root / "other.safetensors", seed=1)
    assert cli.main(arguments(root, "done")) == 0
    return root


def arguments(root, out, **changes):
    options = {"domain": root / "noise", "base": root / "small.safetensors", "method": "mad:2", "epochs": 1}
    options |= changes | {"out": root / out}
    return ["train", *(str(part) for name, value in options.items() for part in (f"--{name}", value))]


def refused(capsys, command, words):
    """The command ends with exit code 2 and one line on stderr that has these words; nothing on stdout."""
    capsys.readouterr()
    assert cli.main(command) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("madlab: ") and err.count("\n") == 1 and "Traceback" not in err
    assert re.search(words, err), err


def test_train_and_evaluate_tell_the_same_accuracy(place, capsys):
    assert cli.main(arguments(place, "told")) == 0
    told = capsys.readouterr().out
    result = json.loads((place / "told" / "result.json").read_text())
    assert f"test accuracy {result['test_accuracy']:.2f} %" in told
    assert f"validation {result['val_accuracy']:.2f} %" in told
    assert cli.main(["evaluate", str(place / "told")]) == 0
    assert capsys.readouterr().out == f"test accuracy {result['test_accuracy']:.2f} %\n"


def test_a_method_may_carry_its_rank_and_signs_are_not_mirrored(place):
    assert cli.main([*arguments(place, "written", method="mad", rank=3), "--no-flip"]) == 0
    config = json.loads((place / "written" / "config.json").read_text())
    assert (config["method"], config["rank"], config["flip"]) == ("mad", 3, False)
    config = json.loads((place / "done" / "config.json").read_text())
    assert (config["method"], config["rank"], config["flip"]) == ("mad", 2, True)


def test_every_field_of_the_recipe_is_an_option(place):
    options = {"batch-size": 7, "seed": 4, "head-lr": 0.05, "adapter-lr": 2.5, "smoothing": 0, "crop": 24}
    assert cli.main(arguments(place, "options", **options)) == 0
    recipe = json.loads((place / "options" / "config.json").read_text())["recipe"]
    assert {name: recipe[name.replace("-", "_")] for name in options} == options


def test_the_report_of_a_run_shows_its_accuracy(place, capsys):
    assert cli.main(["report", str(place / "done")]) == 0
    result = json.loads((place / "done" / "result.json").read_text())
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("| mad:2"))
    assert f" {result['test_accuracy']:.2f} " in row and f" {result['adapter_parameters']:,} " in row


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"method": "magic"}, "Unknown method 'magic': choose one of .*mad"),
        ({"method": "mad:many"}, "Unknown method 'mad:many'"),
        ({"method": "mad:0"}, "Rank 0 is not possible: choose a whole number from 1 to 32"),
        ({"method": "mad", "rank": 33}, "Rank 33 is not possible: choose a whole number from 1 to 32"),
        ({"method": "frozen:2"}, "takes no option 'rank'"),
        ({"domain": "atlantis"}, "no domain or folder 'atlantis'"),
        ({"base": "resnet27"}, "No base network 'resnet27': shipped are .*pocket-resnet26"),
        ({"base": "absent.safetensors"}, "There is no file absent.safetensors"),
        ({"layers": "5x5"}, "Unknown layers '5x5'"),
        ({"epochs": 0}, "epochs is 0: choose at least 1"),
        ({"crop": 99}, "crop of 99 pixels is larger than the images of 36"),
        ({"adapter-lr": 1e30, "epochs": 6, "batch-size": 24}, "loss became nan in epoch 3: lower the learning rates"),
    ],
)
def test_options_that_cannot_work(place, capsys, tmp_path, changes, words):
    command = arguments(place, "refused", **changes)
    command[-1] = str(tmp_path / "refused")
    refused(capsys, command, words)
    assert not (tmp_path / "refused" / "result.json").exists()


def _empty_class(root):
    for path in (root / "val" / "class1").iterdir():
        path.unlink()


def _single_class(root):
    for split in ("train", "val", "test"):
        for label in (1, 2):
            shutil.rmtree(root / split / f"class{label}")


def _other_classes(root):
    (root / "test" / "class2").rename(root / "test" / "class3")


def _no_split(root):
    shutil.rmtree(root / "val")


def _unreadable(root):
    (root / "train" / "class0" / "0.png").write_bytes(b"not a picture")


def _truncated(root):
    path = root / "train" / "class0" / "1.png"
    path.write_bytes(path.read_bytes()[:300])


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_empty_class, "class1 has no images"),
        (_single_class, "one class only"),
        (_other_classes, "lacks class folders that train has .class2"),
        (_no_split, "has no folder val"),
        (_unreadable, "0.png"),
        (_truncated, "1.png"),
    ],
)
def test_folders_that_cannot_be_learned_from(place, capsys, tmp_path, spoil, words):
    shutil.copytree(place / "noise", tmp_path / "noise")
    spoil(tmp_path / "noise")
    refused(capsys, arguments(place, "spoilt", domain=tmp_path / "noise"), words)
    assert not (place / "spoilt").exists()


def test_grey_and_transparent_and_sixteen_bit_images_are_learned_from(place, tmp_path, capsys):
    shutil.copytree(place / "noise", tmp_path / "noise")
    for number, mode in enumerate(("L", "RGBA", "I;16", "P", "1")):
        Image.new(mode, (40, 50)).save(tmp_path / "noise" / "train" / "class0" / f"{number}.png")
    assert cli.main(arguments(place, "modes", domain=tmp_path / "noise")) == 0


def test_a_run_folder_that_exists_is_left_as_it_is(place, capsys):
    before = {path.name: path.read_bytes() for path in (place / "done").iterdir()}
    refused(capsys, arguments(place, "done"), "exists: resume it .--resume. or choose another")
    refused(capsys, [*arguments(place, "done", epochs=2), "--resume"], "started with another recipe")
    assert {path.name: path.read_bytes() for path in (place / "done").iterdir()} == before
    assert cli.main([*arguments(place, "done"), "--resume"]) == 0


def test_an_adapter_of_another_base_is_refused(place, capsys, tmp_path):
    shutil.copytree(place / "done", tmp_path / "moved")
    config = json.loads((tmp_path / "moved" / "config.json").read_text())
    config["base_source"] = str(place / "other.safetensors")
    (tmp_path / "moved" / "config.json").write_text(json.dumps(config))
    refused(capsys, ["evaluate", str(tmp_path / "moved")], "trained on another base network .small")


def test_evaluate_and_report_need_runs(place, capsys, tmp_path):
    refused(capsys, ["evaluate", str(tmp_path / "nowhere")], "There is no file .*config.json")
    refused(capsys, ["report", str(tmp_path)], "no finished run below")
    shutil.copytree(place / "done", tmp_path / "torn")
    adapter = tmp_path / "torn" / "adapter.safetensors"
    adapter.write_bytes(adapter.read_bytes()[:-100])
    refused(capsys, ["evaluate", str(tmp_path / "torn")], "not a whole safetensors file")


def test_a_damaged_run_is_named_and_left_out_of_the_report(place, capsys, tmp_path):
    for name in ("a", "b"):
        shutil.copytree(place / "done", tmp_path / name)
    (tmp_path / "b" / "result.json").write_text('{"domain": "noise"')
    capsys.readouterr()
    assert cli.main(["report", str(tmp_path)]) == 2
    out, err = capsys.readouterr()
    assert out.count("| mad:2") == 1 and "seed" in out
    first, last = err.splitlines()
    assert first.startswith(f"madlab: left out: {tmp_path / 'b' / 'result.json'} is damaged")
    assert last == "madlab: the table lacks 1 run that could not be read."


def test_a_records_file_is_reported_as_a_folder_of_the_same_runs_is(place, capsys, tmp_path):
    parts = {name: json.loads((place / "done" / f"{name}.json").read_text()) for name in ("config", "result")}
    log = [json.loads(line) for line in (place / "done" / "metrics.jsonl").read_text().splitlines()]
    (tmp_path / "grid.jsonl").write_text(json.dumps(parts | {"log": log}) + "\n")
    capsys.readouterr()
    told = []
    for runs in (place / "done", tmp_path / "grid.jsonl"):
        assert cli.main(["report", str(runs), "--csv", str(tmp_path / "table.csv")]) == 0
        told.append((capsys.readouterr().out, (tmp_path / "table.csv").read_text()))
    assert told[0] == told[1]


def test_help_and_import_load_nothing_heavy():
    """One process for all: each would spend seconds on importing PyTorch if this were wrong."""
    program = """
import sys
import madlab
from madlab import cli
for command in ([], ["train"], ["sweep"], ["evaluate"], ["report"], ["doctor"]):
    try:
        cli.main([*command, "--help"])
    except SystemExit as end:
        assert end.code == 0
unwanted = {"torch", "torchvision", "numpy", "matplotlib", "pandas", "ipywidgets", "sklearn", "ray", "peft"}
heavy = unwanted & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for words in ("usage: madlab", "--domain", "--resume", "--engine", "--csv", "--adapter-lr"):
        assert words in done.stdout


def test_import_madlab_and_its_names_load_no_plotting():
    program = """
import sys
import madlab
madlab.MultiDomainNet, madlab.train, madlab.load_base
heavy = {"matplotlib", "pandas", "ipywidgets", "sklearn", "pooch", "ray", "peft", "timm"} & set(sys.modules)
assert "torch" in sys.modules and not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
