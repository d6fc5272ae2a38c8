"""The pages of `madlab inspect` and `madlab compare`: whole in one file, true to the run, and readable."""

import itertools
import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from tiny import write_base, write_folder

import madlab
from madlab import figures
from madlab.cli import main
from madlab.inspection import compare_runs, inspect_run
from madlab.inspection.change import by_layer
from madlab.runs.config import RunConfig, command_again


class Page(HTMLParser):
    """What a page consists of: its elements with their attributes, and its text."""

    def __init__(self, path: Path):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of several methods on three classes, one of them with a name that is HTML."""
    place = tmp_path_factory.mktemp("pages")
    data, base = write_folder(place / "shades"), write_base(place / "small.safetensors")
    for split in ("train", "val", "test"):
        (data / split / "class0").rename(data / split / "<img src=x onerror=alert(1)>")
    for method in ("mad", "mad:2", "prompt", "frozen", "lora:2"):
        out, options = place / method.replace(":", ""), {"frame": 2} if method == "prompt" else None
        madlab.train(
            data, method, options=options, base=base, out=out, epochs=2, batch_size=8, progress=False, device="cpu"
        )
    return place


@pytest.fixture(scope="module")
def page(place: Path) -> Page:
    path, _ = inspect_run(place / "mad", device="cpu")
    assert path == place / "mad" / "inspect.html"
    return Page(path)


def test_a_page_fetches_nothing_and_runs_nothing(page: Page) -> None:
    addresses = [
        a[key] or "" for _, a in page.elements for key in ("src", "srcset", "href", "data", "action") if key in a
    ]
    assert addresses and all(address.startswith(("data:image/webp;base64,", "#")) for address in addresses)
    assert not page.all("script") and not any(name.startswith("on") for _, a in page.elements for name in a)
    (policy,) = [a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def test_a_class_name_is_text_and_no_markup(page: Page) -> None:
    assert "<img src=x onerror=alert(1)>" in page.text
    assert all((image["src"] or "").startswith("data:") for image in page.all("img"))


def test_every_picture_has_words_and_headings_have_an_order(page: Page) -> None:
    assert all(len(image["alt"] or "") > 10 for image in page.all("img"))
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    targets = {a["id"] for _, a in page.elements if "id" in a}
    assert {(link["href"] or "")[1:] for link in page.all("a")} <= targets
    assert all(a.get("scope") in ("col", "row") for a in page.all("th"))


def test_every_figure_is_there_for_a_dark_page_too(page: Page) -> None:
    figures = page.all("figure")
    assert len(figures) == len(page.all("source")) == 7
    assert all(a["media"] == "(prefers-color-scheme: dark)" for a in page.all("source"))
    following = itertools.pairwise(page.elements)  # in a picture, the light version comes after the dark one
    pairs = [(dark["srcset"], light["src"]) for (tag, dark), (_, light) in following if tag == "source"]
    assert len(set(pairs)) == 7 and all(dark != light for dark, light in pairs)


def test_the_numbers_are_those_of_the_run(place: Path, page: Page) -> None:
    result = json.loads((place / "mad" / "result.json").read_text())
    assert f"{result['test_accuracy']:.1f} %" in page.text and "18 test images" in page.text
    bytes_ = (place / "mad" / "adapter.safetensors").stat().st_size
    assert f"{bytes_:,} bytes" in page.text
    assert f"madlab train --config {place / 'mad' / 'config.json'}" in page.text
    assert result["base"]["sha256"] in page.text
    wrong = round(18 * (1 - result["test_accuracy"] / 100))
    shown = [image["alt"] or "" for image in page.all("img") if (image["alt"] or "").startswith("An image of")]
    assert len(shown) == min(wrong, 12) + min(18 - wrong, 12)


def test_the_command_repeats_the_run(place: Path, page: Page, tmp_path: Path) -> None:
    (command,) = re.findall(r"madlab train .*", page.text)
    arguments = command.split()[1:-1]
    assert main([*arguments, str(tmp_path / "again"), "--device", "cpu"]) == 0
    one, other = (json.loads((run / "result.json").read_text()) for run in (place / "mad", tmp_path / "again"))
    assert one["test_accuracy"] == other["test_accuracy"] and one["val_accuracy"] == other["val_accuracy"]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["mad2", "prompt", "frozen", "lora2"])
def test_every_kind_of_method_has_a_page(method: str, place: Path, tmp_path: Path) -> None:
    page = Page(inspect_run(place / method, tmp_path / "page.html", split="val", device="cpu")[0])
    assert "validation images" in page.text and "on the test images it" in page.text
    assert ("α farther than" in page.text) == method.startswith("mad")
    assert ("leaves the filters as they are" in page.text) == (method in ("prompt", "frozen"))


def test_the_change_of_a_layer_is_that_of_its_filters(place: Path) -> None:
    run = madlab.load_run(place / "mad", device="cpu")
    merged, base = run.net.merge(run.domain), run.net.base
    for layer in by_layer(run.net.view(run.domain), {}):
        before, after = (network.get_submodule(layer.name).weight for network in (base, merged))
        assert layer.change == pytest.approx(((after - before).norm() / before.norm()).item(), rel=1e-4)


def test_two_runs_are_beside_each_other(place: Path, tmp_path: Path) -> None:
    path, verdict = compare_runs(place / "mad", place / "lora2", tmp_path / "both.html", device="cpu")
    page, accuracies = Page(path), [madlab.evaluate(place / name) for name in ("mad", "lora2")]
    for accuracy in accuracies:
        assert f"{accuracy:.2f} %" in page.text
    assert verdict in page.text and "McNemar" in verdict
    assert f"{accuracies[1] - accuracies[0]:+.2f} points" in page.text
    assert "lora" in page.text and "config.json" in page.text
    assert not page.all("script")


def test_two_runs_of_one_method_are_told_apart_by_their_folders(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "mad", tmp_path / "twin")
    path, verdict = compare_runs(place / "mad", tmp_path / "twin", tmp_path / "both.html", device="cpu")
    assert str(tmp_path / "twin") in verdict and "do not tell" in verdict
    assert "The same in every option" in Page(path).text


def test_two_sizes_of_one_window_can_be_compared(place: Path, tmp_path: Path) -> None:
    """Networks of one crop are often resized differently before it: the pixels differ, the images do not."""
    large = trained(place, tmp_path / "large", size=40, crop=32)
    compare_runs(place / "mad", large, tmp_path / "both.html", device="cpu")


def test_a_rounded_run_has_the_bytes_that_it_stores(place: Path, tmp_path: Path) -> None:
    rounded = trained(place, tmp_path / "rounded", epochs=2, finish_bits=4)
    text = Page(compare_runs(place / "mad", rounded, tmp_path / "both.html", device="cpu")[0]).text
    exact, four = (json.loads((run / "result.json").read_text())["stored_bytes"] for run in (place / "mad", rounded))
    for stored in (exact, four):
        assert f"{stored['adapter']:,}, {stored['norms']:,}, {stored['head']:,}" in text
    assert four["adapter"] < exact["adapter"] / 4
    kept = "the best on validation of those that were rounded"
    assert kept in Page(inspect_run(rounded, tmp_path / "own.html", device="cpu")[0]).text


def test_names_that_the_font_cannot_write_are_numbers() -> None:
    assert figures.axis_names(["cat", "\u732b", "x" * 40, "a$b"], [5, 6, 7, 8]) == [
        "cat",
        "class 6",
        "x" * 23 + "…",
        r"a\$b",
    ]


def test_the_command_from_within_the_folder_names_it(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place / "mad")
    command = command_again(".", RunConfig.read("."), "-again")
    assert command.endswith(f"--out {place / 'mad'}-again") and "--out .-again" not in command


def test_images_that_are_no_longer_there_have_to_be_given(place: Path) -> None:
    config = replace(RunConfig.read(place / "mad"), source="/nowhere/shades")
    assert "--domain FOLDER" in command_again(place / "mad", config, "-again")


def test_bad_input_is_one_sentence(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lost, unfinished = tmp_path / "lost", tmp_path / "unfinished"
    shutil.copytree(place / "mad", lost)
    facts = json.loads((lost / "config.json").read_text())
    for source, reason in ((None, "--domain FOLDER"), ("/nowhere/shades", "are not in /nowhere/shades")):
        (lost / "config.json").write_text(json.dumps(facts | {"source": source}))
        assert main(["inspect", str(lost)]) == 2
        assert reason in capsys.readouterr().err
    unfinished.mkdir()
    RunConfig.read(place / "mad").write(unfinished)
    other = write_folder(tmp_path / "other", classes=2)
    for arguments, reason in (
        (["inspect", str(unfinished)], "has not finished"),
        (["inspect", str(place)], "is not a run folder"),
        (["inspect", str(place / "mad"), "--out", "page.pdf"], "does not end in .html"),
        (["inspect", str(place / "mad"), "--split", "train"], "choose one of test, val"),
        (["inspect", str(lost), "--domain", str(other)], "are not those of the run"),
        (["compare", str(place / "mad"), str(unfinished)], "has not finished"),
        (["evaluate", str(unfinished)], "has not finished"),
        (["predict", str(unfinished), "image.png"], "has not finished"),
    ):
        assert main(arguments) == 2, arguments
        told = capsys.readouterr().err
        assert reason in told and told.count("\n") == 1, told


@pytest.mark.slow
def test_images_from_elsewhere_are_used(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "mad", tmp_path / "run")
    shutil.copytree(place / "shades", tmp_path / "moved")
    facts = json.loads((tmp_path / "run" / "config.json").read_text())
    (tmp_path / "run" / "config.json").write_text(json.dumps(facts | {"source": None}))
    _, told = inspect_run(tmp_path / "run", domain=tmp_path / "moved", device="cpu")
    assert f"test accuracy {madlab.evaluate(place / 'mad'):.2f} %" in told


def trained(place: Path, out: Path, **options: Any) -> Path:
    base = str(place / "small.safetensors")
    given: dict[str, Any] = {"base": base, "epochs": 1, "batch_size": 8, "progress": False, "device": "cpu"}
    madlab.train(place / "shades", "mad", out=out, **given | options)
    return out


@pytest.mark.slow
def test_a_run_that_trained_on_validation_says_so(place: Path, tmp_path: Path) -> None:
    both = trained(place, tmp_path / "both", trainval=True)
    path, _ = inspect_run(both, split="val", device="cpu")
    assert "was trained on these images, too" in " ".join(Page(path).text.split())
    with pytest.raises(madlab.MadlabError, match="trained on its validation images: compare on the test images"):
        compare_runs(place / "mad", both, tmp_path / "page.html", split="val", device="cpu")


@pytest.mark.slow
def test_a_folded_domain_has_no_form_to_train_on(place: Path, tmp_path: Path) -> None:
    for run, whole in ((trained(place, tmp_path / "few", finish_bits=2), False), (place / "mad", True)):
        path, _ = inspect_run(run, tmp_path / "page.html", device="cpu")
        assert ("with running statistics" in Page(path).text) == whole
