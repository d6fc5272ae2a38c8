"""The command line: what it prints, its exit codes, and one sentence for everything that is wrong with the input."""

import dataclasses
import importlib.util
import inspect
import json
import re
import shutil
import socket
import subprocess
import sys
import typing

import pytest
import tiny
import torch
from PIL import Image

import madlab
from madlab import cli
from madlab.runs.recipe import Recipe, RecipeOptions


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
    numbers = f"test accuracy {result['test_accuracy']:.2f} %, balanced {result['balanced_accuracy']:.2f} %"
    assert capsys.readouterr().out == f"{numbers}\n"


def test_a_method_may_carry_its_rank_and_signs_are_not_mirrored(place):
    assert cli.main([*arguments(place, "written", method="mad", rank=3), "--no-flip"]) == 0
    config = json.loads((place / "written" / "config.json").read_text())
    assert (config["method"], config["options"], config["flip"]) == ("mad", {"rank": 3}, False)
    config = json.loads((place / "done" / "config.json").read_text())
    assert (config["method"], config["options"], config["flip"]) == ("mad", {"rank": 2}, True)


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
        ({"layers": "5x5"}, "no convolution or nn.Linear '5x5'"),
        ({"method": "mad:--3"}, "Unknown method 'mad:--3'"),
        ({"method": "mad:8", "rank": 4}, "rank was given twice, as 8 and 4"),
        ({"method": "lora:2", "option": "rank=3"}, "rank was given twice, as 2 and 3"),
        ({"method": "lora", "option": "beta=1"}, "takes no option 'beta'"),
        ({"option": "alpha"}, "'alpha' is not of the form NAME=VALUE"),
        ({"option": "alpha=[1]"}, "is not a number, a text, true or false"),
        ({"option": "alpha=NaN"}, "is not a number, a text, true or false"),
        ({"method": "lora", "option": "alpha=big"}, "option alpha cannot be 'big'"),
        ({"method": "lora", "option": "alpha=true"}, "option alpha cannot be True"),
        ({"method": "lora", "option": "alpha=0"}, "option alpha cannot be 0"),
        ({"method": "prompt", "option": "size=1000000000"}, "option size cannot be 1000000000"),
        ({"method": "prompt", "option": "frame=2.5"}, "option frame cannot be 2.5"),
        ({"method": "prompt", "option": "frame=17"}, "frame of 17 pixels does not fit"),
        ({"device": "tpu"}, "no device 'tpu' here: choose one of cpu"),
        ({"device": "cuda:99"}, "no device 'cuda:99' here: choose one of cpu"),
        ({"device": "meta"}, "no device 'meta' here"),
        ({"domain": "d" * 300}, "is too long for a name"),
        ({"base": "b" * 300}, "is too long for a name"),
        ({"domain": ""}, "it is empty"),
        ({"batch-size": 1}, "batch_size is 1; it should be greater than or equal to 2"),
        ({"momentum": 1.5}, "momentum is 1.5; it should be less than 1"),
        ({"warmup": 2}, "warmup is 2.0; it should be less than 1"),
        ({"coarse": 7}, "coarse is 7.0; it should be less than or equal to 1"),
        ({"crop": 0}, "crop is 0; it should be greater than or equal to 1"),
        ({"head-decay": -1}, "head_decay is -1.0; it should be greater than or equal to 0"),
        ({"smoothing": "nan"}, "smoothing is nan; it should be a finite number"),
        ({"head-lr": "inf"}, "head_lr is inf; it should be a finite number"),
        ({"epochs": "many"}, "'many' is not a whole number"),
        ({"epochs": "9" * 5000}, "is not a whole number"),
        ({"epoch": 2}, "unrecognized arguments: --epoch 2"),
        ({"compile": "magic"}, "no backend 'magic'"),
        ({"epochs": 0}, "epochs is 0; it should be greater than or equal to 1"),
        ({"crop": 99}, "crop of 99 pixels is larger than the images of 36"),
        (
            {"adapter-lr": 1e30, "epochs": 6, "batch-size": 24},
            "validation loss became nan in epoch 2: lower the learning rates",
        ),
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
    refused(capsys, [*arguments(place, "done", epochs=2), "--resume"], r"started with other options .epochs 1, now 2.")
    assert {path.name: path.read_bytes() for path in (place / "done").iterdir()} == before
    assert cli.main([*arguments(place, "done"), "--resume"]) == 0


def test_every_field_of_the_recipe_is_typed_and_told_in_one_place(capsys):
    """`RecipeOptions`, which editors read, has the fields of `Recipe`; --help says what stands under each of them."""
    fields = {field.name: field for field in dataclasses.fields(Recipe)}
    hints = typing.get_type_hints(RecipeOptions)
    assert hints.keys() == fields.keys()
    for name, field in fields.items():
        assert typing.get_args(hints[name])[1:] == ((type(None),) if field.default is None else ()), name
        assert field.default is None or isinstance(field.default, hints[name]), name
    with pytest.raises(SystemExit) as end:
        cli.main(["train", "--help"])
    assert end.value.code == 0
    told = " ".join(capsys.readouterr().out.split())
    source = inspect.getsource(Recipe)
    for name in fields:
        (text,) = re.findall(rf'    {name}: .*\n    """(.*)\.?"""', source)
        assert f"--{name.replace('_', '-')} " in told and text[0].lower() + text[1:].removesuffix(".") in told


def test_options_of_a_method_and_the_layers_reach_the_run(place):
    options = {"method": "lora:2", "option": "alpha=16", "layers": "stages.0.0.conv1,stages.1.0.conv2"}
    assert cli.main(arguments(place, "chosen", **options)) == 0
    config = json.loads((place / "chosen" / "config.json").read_text())
    assert config["options"] == {"alpha": 16, "rank": 2}
    assert config["layers"] == ["stages.0.0.conv1", "stages.1.0.conv2"]
    shapes = [(8, 4), (16, 16)]  # of the two layers, all of 3x3
    result = json.loads((place / "chosen" / "result.json").read_text())
    assert result["adapter_parameters"] == sum(2 * (9 * n + m) for m, n in shapes)


@pytest.mark.slow
def test_a_config_repeats_its_run_and_options_beside_it_replace_what_it_says(place, capsys):
    options = {"method": "lora:2", "option": "alpha=16", "seed": 3, "head-lr": 0.07, "epochs": 2}
    assert cli.main([*arguments(place, "first", **options), "--no-flip"]) == 0
    again = ["train", "--config", str(place / "first" / "config.json"), "--out"]
    assert cli.main([*again, str(place / "repeated")]) == 0
    for name in ("config.json", "metrics.jsonl", "adapter.safetensors"):
        assert (place / "first" / name).read_bytes() == (place / "repeated" / name).read_bytes(), name
    assert cli.main([*again, str(place / "changed"), "--epochs", "1", "--rank", "1"]) == 0
    one, other = (json.loads((place / name / "config.json").read_text()) for name in ("first", "changed"))
    assert other == one | {"options": {"alpha": 16, "rank": 1}, "recipe": one["recipe"] | {"epochs": 1}}
    assert cli.main([*again, str(place / "another"), "--method", "mad", "--epochs", "1"]) == 0
    assert json.loads((place / "another" / "config.json").read_text())["options"] == {}


def test_a_config_knows_its_base(place, capsys, tmp_path):
    config = json.loads((place / "done" / "config.json").read_text())
    config["base"]["source"] = str(place / "other.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(config))
    command = ["train", "--config", str(tmp_path / "config.json"), "--out", str(tmp_path / "run")]
    refused(capsys, command, r"other.safetensors is not the base network of .*config.json any more")
    assert cli.main([*command, "--base", str(place / "other.safetensors")]) == 0
    for source, words in (("d" * 400, "no domain or folder"), (None, "does not say where the images are")):
        (tmp_path / "config.json").write_text(json.dumps(config | {"source": source}))
        refused(capsys, [*command[:-1], str(tmp_path / "b"), "--base", config["base"]["source"]], words)
    config["base"]["source"] = "b" * 400
    (tmp_path / "config.json").write_text(json.dumps(config))
    refused(capsys, command, "No base network 'bbb")
    refused(capsys, ["train", "--out", str(tmp_path / "c")], "There is no domain to train on")


def test_configs_of_the_first_version_are_read(place, tmp_path):
    shutil.copytree(place / "done", tmp_path / "old")
    config = json.loads((place / "done" / "config.json").read_text())
    old = {key: config[key] for key in ("domain", "source", "flip", "method", "layers", "compile", "recipe")}
    old |= {"rank": 2, "base_source": config["base"].pop("source"), "base": config["base"]}
    (tmp_path / "old" / "config.json").write_text(json.dumps(old))
    assert madlab.evaluate(tmp_path / "old") == madlab.evaluate(place / "done")
    assert cli.main([*arguments(place, "done")[:-1], str(tmp_path / "old"), "--resume"]) == 0


def test_an_adapter_of_another_base_is_refused(place, capsys, tmp_path):
    shutil.copytree(place / "done", tmp_path / "moved")
    config = json.loads((tmp_path / "moved" / "config.json").read_text())
    config["base"]["source"] = str(place / "other.safetensors")
    (tmp_path / "moved" / "config.json").write_text(json.dumps(config))
    refused(capsys, ["evaluate", str(tmp_path / "moved")], "trained on another base network .small")


def test_evaluate_and_report_need_runs(place, capsys, tmp_path):
    refused(capsys, ["evaluate", str(tmp_path / "nowhere")], "There is no run folder .*nowhere")
    refused(capsys, ["report", str(tmp_path)], "no finished run in")
    image = str(next((place / "noise").rglob("*.png")))
    for command in (
        ["predict", image, str(place / "done")],
        ["evaluate", image],
        ["inspect", image, "--out", "x.html"],
    ):
        refused(capsys, command, "is a file, and not a run folder: give the folder")
    refused(capsys, ["train", "--config", image, "--out", str(tmp_path / "x")], "is not the config of a run: give a")
    refused(capsys, ["evaluate", str(place / "done" / "config.json")], "is a file, and not a run folder")
    refused(capsys, ["evaluate", str(place / "noise")], "is not a run folder, as it has no config.json")
    for name in ("adapter.safetensors", "result.json"):
        refused(capsys, ["report", str(place / "done" / name)], "is not a file of runs: give one with a run per line")
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


@pytest.mark.parametrize(
    "source", ["densenet121", "torchvision:vgg11", "torchvision:resnet18:IMAGENET1K_V1", "timm:resnet10t.c3_in1k"]
)
def test_a_strangers_run_downloads_nothing(place, capsys, tmp_path, monkeypatch, source):
    """The weights are not on this machine: the caches are empty, and a socket would be an error."""
    if source.startswith("timm:") and importlib.util.find_spec("timm") is None:
        pytest.skip("the extra madlab[peers] is not installed")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"), raising=False)
    monkeypatch.setattr(socket, "socket", lambda *a, **k: pytest.fail("a socket was opened"))
    shutil.copytree(place / "done", tmp_path / "gift")
    config = json.loads((tmp_path / "gift" / "config.json").read_text())
    config["base"]["source"] = source
    (tmp_path / "gift" / "config.json").write_text(json.dumps(config))
    words = f"names the base network '{source}', which is not on this machine: .*--base NAME"
    refused(capsys, ["evaluate", str(tmp_path / "gift")], words)
    config_file = str(tmp_path / "gift" / "config.json")
    refused(capsys, ["train", "--config", config_file, "--out", str(tmp_path / "run")], words)
    assert cli.main(["evaluate", str(tmp_path / "gift"), "--base", str(place / "small.safetensors")]) == 0


def test_a_base_without_a_size_is_told_of_in_a_sentence(place, capsys, tmp_path):
    """Images are then taken at ImageNet's size, which would otherwise surprise: these are of 36 pixels."""
    torch.manual_seed(0)
    madlab.save_base(
        madlab.resnet26(5, width=4), tmp_path / "bare.safetensors", name="b", architecture="resnet26", width=4
    )
    assert cli.main(arguments(place, "sizeless", base=tmp_path / "bare.safetensors", method="frozen")) == 0
    told = capsys.readouterr().err
    assert told.startswith("madlab: The network does not say for which image size") and told.count("\n") == 1


def test_classes_that_are_not_those_of_the_run(place, capsys, tmp_path):
    """Numbered by their names, renamed classes would be taken for one another and score nothing."""
    shutil.copytree(place / "noise", tmp_path / "noise")
    assert cli.main(arguments(place, "named", domain=tmp_path / "noise")) == 0
    for split in ("train", "val", "test"):
        (tmp_path / "noise" / split / "class0").rename(tmp_path / "noise" / split / "zebra")
    refused(
        capsys, ["evaluate", str(place / "named")], "classes .* are not those of the run .*lacks class0.*adds zebra"
    )


def test_outputs_are_tried_before_the_work(place, capsys, tmp_path, monkeypatch):
    """The library is replaced by what must not be reached."""
    for name in ("tables.report.write_report", "tables.submission.write_submission", "analysis.bench.run_bench"):
        monkeypatch.setattr(f"madlab.{name}", lambda *a, **k: pytest.fail("it worked first"))
    (tmp_path / "file").write_text("not a folder")
    for command in (
        ["report", str(place), "--csv", str(tmp_path / "file" / "a.csv")],
        ["report", str(place), "--figure", str(tmp_path)],
        ["report", str(place), "--figure", str(tmp_path / "a.gif")],
        ["bench", "--json", str(tmp_path)],
        ["evaluate", str(place / "done"), "--results", str(tmp_path / "file" / "results.json")],
        [*arguments(place, "done")[:-1], str(tmp_path / "file" / "run")],
        [*arguments(place, "done")[:-1], str(place / "noise" / "train" / "run")],
    ):
        refused(capsys, command, "could not be written|cannot be written|nothing was written|lies inside the data")
    command = ["evaluate", str(place / "done"), "--results", str(tmp_path / "results.json"), "--domain", "signs"]
    refused(capsys, command, "leave --domain out")


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["prepare", "open", "--domains", ","], "',' is not a list of names"),
        (["sweep", "--domains", "a,,b", "--methods", "mad", "--out", "x"], "'a,,b' is not a list of names"),
        (["bench", "--width", "0"], "A width of 0 is too small"),
        (["bench", "--batch", "0"], "A batch of 0 is too small"),
        (["bench", "--size", "0"], "A size of 0 is too small"),
        (["bench", "--batch", "1000000000000"], "A batch of 1000000000000 is too large"),
        (["evaluate", "a/" * 3000], "is too long for a name"),
        (
            [
                "sweep",
                "--domains",
                "signs",
                "--methods",
                "mad",
                "--out",
                "x",
                "--engine",
                "ray",
                "--gpus-per-run",
                "nan",
            ],
            "nan GPUs for a run are not possible",
        ),
        (["bench", "--rounds", "0"], "0 rounds measure nothing"),
        (["bench", "--device", "tpu"], "no device 'tpu' here"),
        (["prepare", "everything"], "invalid choice: 'everything'"),
        (["magic"], "invalid choice: 'magic'"),
        ([], "required: COMMAND"),
    ],
)
def test_commands_that_make_no_sense(capsys, command, words):
    refused(capsys, command, words)


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


@pytest.mark.slow
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


@pytest.mark.parametrize("text", ["1_0", "\uff11", " 1", "1\n", "0x1", "1e0", "", "9" * 20])
def test_a_whole_number_is_written_in_plain_digits(place, capsys, text):
    refused(capsys, [*arguments(place, "never"), f"--epochs={text}"], "is not a whole number")


@pytest.mark.parametrize("text", ["0_1", "\uff10", " 0", "0x1p-2", "1e", ".", "e5"])
def test_a_number_is_written_in_plain_digits(place, capsys, text):
    refused(capsys, [*arguments(place, "never"), f"--momentum={text}"], "is not a number")


@pytest.mark.parametrize("name", ["self", "name", "layers", "head", "num_classes"])
def test_an_option_that_add_domain_has_is_none_of_the_methods(place, capsys, name):
    refused(capsys, [*arguments(place, "never"), "--option", f"{name}=1"], f"takes no option '{name}'")
