"""The documented way, command by command: prepare, sweep, evaluate, report, on miniature official archives.

What a researcher types for the real benchmarks is typed here. Only the protocol's counts, addresses and checksums are
those of the miniatures, and the base network is tiny.
"""

import csv
import json
import re
import statistics
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.error import URLError

import archives
import numpy as np
import pytest
import tiny
import torch
from archives import Mini
from PIL import Image

from madlab import MadlabError, cli
from madlab.backbones import load_base, resnet26, save_base
from madlab.benchmarks.decathlon import DECATHLON
from madlab.benchmarks.domain import Domain, Split
from madlab.benchmarks.protocol import Protocol
from madlab.benchmarks.sketch import SKETCH

SHARED = Path(__file__).parents[2].parent / "shared" / "domains"
MINI_DECATHLON = {
    "aircraft": "cars196",
    "cifar100": "cifar10",
    "daimlerpedcls": "caltech100",
    "dtd": "dtd10",
    "gtsrb": "gtsrb",
    "omniglot": "omniglot",
    "svhn": "chars74k",
    "ucf101": "fashion_mnist",
    "vgg-flowers": "flowers",
}
"""Official name -> the domain of SHARED that stands for it."""
MINI_SKETCH = {
    "cubs": "caltech100",
    "cars": "cars196",
    "flowers": "flowers",
    "wikiart": "pacs_art",
    "sketch": "pacs_sketch",
}
TRAINING = ["--epochs", "1", "--batch-size", "8", "--device", "cpu"]


class Size(NamedTuple):
    """How much of the real domains: their names, classes, images per class and split (None: all), and epochs."""

    domains: tuple[str, ...] | None
    classes: int | None
    images: int | None
    epochs: int


FEW = Size(("gtsrb", "flowers"), 4, 20, 10)
ALL = Size(None, None, None, 3)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh machine: an empty data folder, and a base network for the Decathlon's images."""
    monkeypatch.setenv("TQDM_DISABLE", "1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("MADLAB_DATA", str(tmp_path / "data"))
    torch.manual_seed(0)
    network = resnet26(num_classes=5, width=tiny.WIDTH)
    network.resize, network.crop = 72, 64
    path = tmp_path / "base.safetensors"
    save_base(network, path, name="tiny", architecture="resnet26", width=tiny.WIDTH)
    return tmp_path


@pytest.fixture
def official(monkeypatch: pytest.MonkeyPatch) -> Callable[[Protocol, Protocol], None]:
    """Let a miniature's counts, addresses and checksums be the official ones."""

    def stand_in(whole: Protocol, mini: Protocol) -> None:
        monkeypatch.setitem(vars(whole), "domains", mini.domains)
        monkeypatch.setitem(vars(whole), "archives", mini.archives)

    return stand_in


@pytest.fixture
def decathlon(place: Path, official: Callable[[Protocol, Protocol], None]) -> Iterator[Callable[..., list[Mini]]]:
    with archives.serve(place / "shelf") as host:

        def serve(*minis: Mini) -> list[Mini]:
            official(DECATHLON, archives.decathlon(place / "shelf", minis, host.url))
            return list(minis)

        yield serve


def madlab(capsys: pytest.CaptureFixture[str], *command: object) -> str:
    """Run one command, which has to succeed; returns what it printed."""
    assert cli.main([str(part) for part in command]) == 0
    return capsys.readouterr().out


def table(text: str) -> list[dict[str, str]]:
    """The first table of a text."""
    lines = next(part for part in text.split("\n\n") if part.startswith("|")).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [dict(zip(cells[0], row, strict=True)) for row in cells[2:]]


def results_of(runs: Path) -> dict[tuple[str, str], dict]:
    found = [json.loads(path.read_text()) for path in runs.rglob("result.json")]
    return {(r["domain"], r["method"] + (f":{r['rank']}" if r["rank"] else "")): r for r in found}


@pytest.mark.slow
def test_the_decathlon_from_download_to_score(place, decathlon, capsys):
    minis = decathlon(archives.tiny("aircraft", 3, (6, 4, 3), width=107), archives.tiny("gtsrb", 4, (5, 4, 4)))
    data, runs, labels = place / "data", place / "runs", place / "shelf" / "labels_test.zip"
    told = madlab(capsys, "prepare", "decathlon", "--labels", labels)
    assert f"Ready in {data / 'decathlon'}: aircraft, gtsrb." in told

    names = "decathlon:aircraft,decathlon:gtsrb"
    methods = ["finetune", "mad", "mad:2"]
    base = ["--base", place / "base.safetensors", *TRAINING]
    told = madlab(capsys, "sweep", "--domains", names, "--methods", ",".join(methods), "--out", runs, *base)
    assert told.startswith(f"6 finished runs are in {runs}")
    results = results_of(runs)
    assert set(results) == {(mini.name, method) for mini in minis for method in methods}
    # gtsrb's signs are not mirrored, and nobody had to say so.
    flips = {p.parts[-4]: json.loads(p.read_text())["flip"] for p in runs.rglob("config.json")}
    assert flips == {"aircraft": True, "gtsrb": False}

    rows = {row["method"]: row for row in table(madlab(capsys, "report", runs, "--csv", place / "table.csv"))}
    assert set(rows) == set(methods)
    for (domain, method), result in results.items():
        assert rows[method][domain] == f"{result['test_accuracy']:.2f}"
    with open(place / "table.csv", newline="") as file:
        assert {row["method"] for row in csv.DictReader(file)} == set(methods)

    told = madlab(capsys, "report", runs, "--benchmark", "decathlon", "--figure", place / "figure.png")
    ours = {row["method"]: row for row in table(told) if row[""] == "ours"}
    assert set(ours) == set(methods)
    assert all(ours[method][domain] == rows[method][domain] for domain, method in results)
    assert (place / "figure.png").read_bytes().startswith(b"\x89PNG")

    # The challenge's file: every test image once, with its official ids, and a class of its own domain.
    submission = place / "results.json"
    told = madlab(
        capsys, "evaluate", *(runs / mini.name / "mad" / "seed0" for mini in minis), "--results", submission,
        "--labels", labels,
    )  # fmt: skip
    chosen = {entry["image_id"]: entry["category_id"] for entry in json.loads(submission.read_text())}
    with zipfile.ZipFile(labels) as archive:
        for mini in minis:
            truth = json.loads(archive.read(f"labels_test/{mini.name}_test.json"))["annotations"]
            right = [chosen.pop(entry["image_id"]) == entry["category_id"] for entry in truth]
            accuracy = 100 * sum(right) / len(right)
            assert accuracy == pytest.approx(results[mini.name, "mad"]["test_accuracy"])
            assert f"{mini.name:15s} {accuracy:6.2f} %" in told
    assert not chosen
    assert "S over 2 of 2 domains: " in told
    capsys.readouterr()
    assert cli.main(["evaluate", str(runs / "gtsrb/mad/seed0"), str(runs / "gtsrb/mad-2/seed0"), "--results", "x"]) == 2
    assert "second run of gtsrb" in capsys.readouterr().err


@pytest.mark.slow
def test_sketch_from_the_users_archives_to_the_table(place, official, capsys):
    minis = [archives.tiny("cubs", 3, (9, 1, 4), height=90, width=110), archives.tiny("flowers", 2, (9, 1, 3))]
    official(SKETCH, archives.sketch(place / "own", minis, "zip"))
    told = madlab(capsys, "prepare", "sketch", "--source", place / "own")
    assert f"Ready in {place / 'data' / 'sketch'}: cubs, flowers." in told
    command = [
        "train",
        "--domain",
        "sketch:cubs",
        "--method",
        "mad",
        "--layers",
        "3x3",
        "--out",
        place / "runs" / "one",
    ]
    madlab(capsys, *command, "--base", place / "base.safetensors", *TRAINING)
    names = "sketch:cubs,sketch:flowers"
    base = ["--base", place / "base.safetensors", *TRAINING]
    madlab(capsys, "sweep", "--domains", names, "--methods", "finetune,mad:2", "--out", place / "runs", *base)
    results = results_of(place / "runs")
    rows = {row["method"]: row for row in table(madlab(capsys, "report", place / "runs"))}
    assert set(rows) == {"mad (3x3)", "mad:2", "finetune"}
    for mini in minis:
        assert rows["mad:2"][mini.name] == f"{results[mini.name, 'mad:2']['test_accuracy']:.2f}"
        pictures = len(mini.splits["test"])
        right = results[mini.name, "mad:2"]["test_accuracy"] * pictures / 100
        assert right == pytest.approx(round(right)), "a share of the official test pictures"


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.exists(), reason="the real image domains are not on this machine")
@pytest.mark.parametrize("size", [FEW, pytest.param(ALL, marks=pytest.mark.whole)])
def test_the_mini_benchmarks_of_real_pictures_in_the_official_layouts(place, decathlon, official, capsys, size):
    """Nine domains in the decathlon's archives and five in piggyback's (FEW: one of each), full MAD over all."""
    minis = {
        benchmark: [
            archives.from_domain(real(name, size), known_as, 80)
            for known_as, name in stands_for.items()
            if size.domains is None or known_as in size.domains
        ]
        for benchmark, stands_for in (("decathlon", MINI_DECATHLON), ("sketch", MINI_SKETCH))
    }
    decathlon(*minis["decathlon"])
    madlab(capsys, "prepare", "decathlon", "--labels", place / "shelf" / "labels_test.zip")
    official(SKETCH, archives.sketch(place / "own", minis["sketch"], "tar"))
    madlab(capsys, "prepare", "sketch", "--source", place / "own" / "data.tar.gz")
    for benchmark, base in (("decathlon", "pocket-resnet26"), ("sketch", "pocket-densenet")):
        used = minis[benchmark]
        runs, names = place / "runs" / benchmark, ",".join(f"{benchmark}:{mini.name}" for mini in used)
        command = ["sweep", "--domains", names, "--methods", "mad", "--base", base, "--out", runs]
        small = [] if size.images is None else ["--batch-size", "16"]
        madlab(capsys, *command, *small, "--epochs", size.epochs, "--device", "cpu")
        told = madlab(capsys, "report", runs, "--benchmark", benchmark)
        (ours,) = [row for row in table(told) if row[""] == "ours"]
        if size is ALL:
            with capsys.disabled():
                print(f"\n{told}")
        chance = statistics.fmean(100 / len(mini.class_names) for mini in used)
        assert statistics.fmean(float(ours[mini.name]) for mini in used) > 1.6 * chance


@pytest.mark.parametrize(
    ("name", "file"), [("densenet121", "densenet121-a639ec97.pth"), ("resnet50", "resnet50-0676ba61.pth")]
)
def test_without_network_the_message_says_which_file_goes_where(name, file, tmp_path, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise URLError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    with pytest.raises(MadlabError) as told:
        load_base(name)
    assert re.search(rf"run `curl -O https://\S+/{file}`", str(told.value)) and str(tmp_path) in str(told.value)
    assert f"put the file here as {tmp_path / 'hub' / 'checkpoints' / file}" in str(told.value)


def real(name: str, size: Size) -> Domain:
    """A real domain, or of every tenth class (of every one, where there are few) the first images."""
    sys.path.insert(0, str(SHARED))
    try:
        from domains import load
    finally:
        sys.path.remove(str(SHARED))
    content, splits = load(name), {}
    class_names = content["class_names"]
    step = 1 if size.classes is None else min(10, len(class_names) // size.classes)
    kept_classes = list(range(0, len(class_names), step))[: size.classes]
    for split in ("train", "val", "test"):
        images, labels = content[split]
        kept = [i for label in kept_classes for i in np.flatnonzero(labels == label)[: size.images]]
        pictures = [np.asarray(Image.fromarray(images[i]).convert("RGB").resize((72, 72))) for i in kept]
        place_of = {label: place for place, label in enumerate(kept_classes)}
        answers = torch.tensor([place_of[int(labels[i])] for i in kept])
        splits[split] = Split(torch.from_numpy(np.stack(pictures)), answers)
    return Domain(name, [class_names[label] for label in kept_classes], **splits)
