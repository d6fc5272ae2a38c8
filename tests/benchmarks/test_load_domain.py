"""A name is a domain's, a path is a folder's: neither is silently taken for the other."""

import json
import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import tiny

import madlab
from madlab import cli
from madlab.benchmarks import load_domain, pocket, short_name, source_of
from madlab.errors import MadlabError, MadlabWarning


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with own images in ./walkers, which is also a pocket domain, here a small one."""
    monkeypatch.setenv("MADLAB_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(pocket, "SPECS", {"walkers": replace(pocket.SPECS["walkers"], counts=(2, 1, 1))})
    tiny.write_folder(tmp_path / "walkers", classes=3)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_name_is_the_domain_that_comes_with_madlab_and_says_so(here: Path) -> None:
    with pytest.warns(MadlabWarning, match=r"'walkers' is taken for the domain .* write \./walkers for the folder"):
        assert load_domain("walkers").num_classes == 2


def test_it_says_so_of_a_folder_that_is_not_split_yet(here: Path) -> None:
    (here / "walkers" / "train").rename(here / "flat")
    shutil.rmtree(here / "walkers")
    (here / "flat").rename(here / "walkers")
    with pytest.warns(MadlabWarning, match=r"write \./walkers for the folder"):
        assert load_domain("walkers").num_classes == 2
    with pytest.raises(MadlabError, match=r"leave the split out, or write \./walkers for the folder"):
        madlab.train("walkers", split="70/15/15")


def test_a_path_is_the_folder(here: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for folder in (
            "./walkers",
            Path("walkers"),
            here / "walkers",
            str(here / "walkers"),
            "../" + here.name + "/walkers",
        ):
            assert load_domain(folder).num_classes == 3


def test_nothing_is_said_where_there_is_no_folder_of_images(here: Path) -> None:
    (here / "walkers").rename(here / "mine")
    (here / "walkers" / "mad").mkdir(parents=True)  # such as a run's
    for name in ("config.json", "batch.png"):
        (here / "walkers" / "mad" / name).touch()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_domain("walkers").num_classes == 2


def test_what_neither_is_is_told(here: Path) -> None:
    for name in ("runners", "", "./signs"):
        with pytest.raises(MadlabError, match="There is no domain or folder"):
            load_domain(name)
    with pytest.raises(MadlabError, match=r"no domain or folder '\./decathlon:gtsrb'"):
        load_domain(Path("decathlon:gtsrb"))


@pytest.mark.parametrize(
    ("given", "source", "short"),
    [
        ("signs", "signs", "signs"),
        ("./signs", "./signs", "signs"),
        (Path("signs"), "./signs", "signs"),
        (Path("./photos/"), "photos", "photos"),
        ("photos/birds/", "photos/birds", "birds"),
        ("decathlon:gtsrb", "decathlon:gtsrb", "gtsrb"),
        (Path("open:dtd"), "./open:dtd", "open:dtd"),
    ],
)
def test_a_source_means_the_same_again(given: object, source: str, short: str) -> None:
    assert source_of(given) == source == source_of(source)
    assert short_name(source) == short


def test_a_pocket_domain_obeys_flip(here: Path) -> None:
    assert load_domain(Path("walkers"), flip=False).flip is False
    (here / "walkers").rename(here / "mine")
    assert load_domain("walkers").flip and not load_domain("walkers", flip=False).flip


def test_a_run_and_a_sweep_on_the_folder_stay_with_it(here: Path, capsys: pytest.CaptureFixture) -> None:
    base = tiny.write_base(here / "base.safetensors")
    options = {"base": base, "epochs": 1, "batch_size": 8, "device": "cpu", "progress": False}
    madlab.train(Path("walkers"), "frozen", out=here / "run", **options)
    assert json.loads((here / "run" / "config.json").read_text())["source"] == "./walkers"
    assert 0 <= madlab.evaluate(here / "run", device="cpu") <= 100
    grid = ["--methods", "frozen", "--base", base, "--epochs", "1", "--batch-size", "8", "--device", "cpu"]
    assert cli.main(["sweep", "--domains", "./walkers", "--out", "runs", *grid]) == 0
    assert json.loads((here / "runs/walkers/frozen/seed0/config.json").read_text())["source"] == "./walkers"
    assert cli.main(["sweep", "--domains", "./walkers,walkers", "--out", "both", *grid]) == 2
    assert "give each domain and each method once" in capsys.readouterr().err
