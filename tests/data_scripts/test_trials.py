"""The rounds of trials: which rates are tried, that none is tried twice, and whose rates a method has from them."""

import json
from pathlib import Path

import pytest
from scripts import load_script

from madlab.adapters import METHODS
from madlab.runs.record import RECORDS

tune, finals, replicates = map(load_script, ("tune", "finals", "replicates"))
FIRST = {(0.05, 0.3, 0.1): 40.0, (0.02, 0.4, 0.1): 45.0, (0.1, 0.2, 0.05): 44.0, (0.03, 0.3, 0.1): 41.0}
FIRST |= {(0.2, 0.1, 0.1): 10.0, (0.01, 1.0, 0.3): 42.0}
"""Rates -> the mean of one family in the first round."""


def line(rates: tuple[float, ...], mean: float, family: str = "mad") -> dict:
    return {"family": family, "rates": dict(zip(finals.KINDS, rates, strict=True)), "mean": mean}


BEST_FOUR = [(0.02, 0.4, 0.1), (0.1, 0.2, 0.05), (0.01, 1.0, 0.3), (0.03, 0.3, 0.1)]


@pytest.mark.parametrize(
    ("means", "pairs"),
    [
        # Nothing better in the first pair: nearer. Then the higher one: on in that direction. Then nothing.
        (
            [50, 52, 49, 51, 40, 40, 40, 53, 40, 40],
            [
                ((0.05, 0.1, 0.025), (0.2, 0.4, 0.1)),
                ((0.0707, 0.141, 0.0354), (0.141, 0.283, 0.0707)),
                ((0.168, 0.337, 0.0841), (0.154, 0.309, 0.0771)),  # 0.2 was tried in the first pair
                ((0.119, 0.238, 0.0595), (0.147, 0.295, 0.0738)),
            ],
        ),
        # Half is better and half of that, too; then nothing.
        (
            [60, 52, 49, 51, 61, 40, 62, 40, 40, 40],
            [
                ((0.01, 0.2, 0.05), (0.04, 0.8, 0.2)),
                ((0.005, 0.1, 0.025), (0.00707, 0.141, 0.0354)),
                ((0.0025, 0.05, 0.0125), (0.00354, 0.0707, 0.0177)),
                ((0.0042, 0.0841, 0.021), (0.00595, 0.119, 0.0297)),  # roots of two were tried
            ],
        ),
    ],
)
def test_the_second_round_takes_the_best_four_and_then_goes_where_it_is_better(means, pairs) -> None:
    first = [line(rates, mean) for rates, mean in FIRST.items()]
    first.append(line((0.02, 0.4, 0.1), 44.5))  # tried twice: still one place
    own: list[dict] = []
    for number, mean in enumerate([*means, 0, 0]):
        own.append(line(tuple(finals.rates_of(number, first, own).values()), mean))
    tried = [tuple(one["rates"].values()) for one in own]
    assert tried[:4] == BEST_FOUR
    assert len(set(tried)) == len(tried)
    for found, expected in zip(tried[4:], [place for pair in pairs for place in pair], strict=True):
        assert found == pytest.approx(expected, rel=0.006)


def test_the_second_round_trains_what_is_missing_with_the_recipe_of_the_table(tmp_path, monkeypatch) -> None:
    trained = []

    def trial(path: str, flip: bool | None, family: str, rates: dict, recipe: dict) -> dict:
        trained.append((path, flip, family, tuple(rates.values()), recipe))
        return {"val_accuracy": 50.0 if path == "a/signs" else 10.0, "val_images": 200}

    monkeypatch.setattr(tune, "trial", trial)
    file, out = tmp_path / "trials.jsonl", tmp_path / "trials-finals.jsonl"
    others = [line(rates, 99.0, "wtpb") for rates in FIRST]
    file.write_text("".join(json.dumps(own) + "\n" for own in [*others, *(line(*own) for own in FIRST.items())]))
    monkeypatch.setattr(finals, "FIRST", file)
    flips = {"a/flowers": None, "a/signs": False}
    out.write_text(json.dumps(line((0.02, 0.4, 0.1), 5.0)) + "\n")
    finals.try_again("mad", flips, out, more=0)
    lines = [json.loads(text) for text in out.read_text().splitlines()]
    assert len(lines) == 8 and len(trained) == 2 * 7
    assert [one["trial"] for one in lines[1:]] == [1, 2, 3, 4, 5, 6, 7]
    assert {one["mean"] for one in lines[1:]} == {30.0}
    assert all(one["coarse"] == 0 and one["polyak"] == 4 and one["epochs"] == 6 for one in lines[1:])
    assert {own[:3] for own in trained} == {("a/flowers", None, "mad"), ("a/signs", False, "mad")}
    assert all(own[4] == {"epochs": 6, "coarse": 0.0, "polyak": 4.0, "seed": 0} for own in trained)
    before = out.read_bytes()
    assert "30.00 %" in finals.try_again("mad", flips, out, more=0)
    assert out.read_bytes() == before
    with file.open("a") as more:
        more.write(json.dumps(line((0.3, 0.3, 0.3), 60.0)) + "\n")
    with pytest.raises(ValueError, match="that round is closed"):
        finals.try_again("mad", flips, out, more=0)


def test_the_best_four_have_two_more_seeds_which_alone_choose(tmp_path, monkeypatch) -> None:
    """By all three seeds 0.05 is better than 0.1; by the new ones it is not. 0.01 is not among the four."""
    accuracies = {0.2: (60, 40, 41), 0.1: (51, 51, 49), 0.05: (55, 50, 48), 0.025: (48, 46, 42), 0.01: (30, 70, 70)}
    trained = []

    def trial(path: str, flip: bool | None, family: str, rates: dict, recipe: dict) -> dict:
        trained.append((family, rates["adapter_lr"], recipe["seed"]))
        return {"val_accuracy": float(accuracies[rates["adapter_lr"]][recipe["seed"]]), "val_images": 270}

    monkeypatch.setattr(tune, "trial", trial)
    file, out = tmp_path / "trials-finals.jsonl", tmp_path / "trials-replicates.jsonl"
    lines = [line((adapter, 0.3, 0.1), float(found[0])) for adapter, found in accuracies.items()]
    file.write_text("".join(json.dumps(own) + "\n" for own in [line((0.4, 0.3, 0.1), 99.0, "wtpb"), *lines]))
    monkeypatch.setattr(replicates, "SECOND", file)
    flips = {"a/flowers": None, "a/signs": False}
    told = replicates.replicate("mad", flips, out, more=0)
    assert trained == [("mad", rate, seed) for seed in (1, 2) for rate in (0.2, 0.05, 0.1, 0.025) for _ in flips]
    assert "mad: 50.00 % with {'adapter_lr': 0.1," in told
    written = out.read_text().splitlines()
    assert [json.loads(text)["seed"] for text in written] == [1] * 4 + [2] * 4
    assert replicates.replicate("mad", flips, out, more=0) == told and len(trained) == 16, "nothing twice"
    out.write_text("\n".join(written[:3]) + "\n")
    assert replicates.replicate("mad", flips, out, more=0) == told and len(trained) == 16 + 10, "goes on where it was"
    assert out.read_text().splitlines() == written
    assert "no replicates before its second round" in replicates.replicate("series", flips, out, more=0)
    with pytest.raises(ValueError, match="leave out --more"):
        replicates.replicate("mad", flips, out, more=2)
    with file.open("a") as more:
        more.write(json.dumps(line((0.3, 0.3, 0.1), 90.0)) + "\n")
    with pytest.raises(ValueError, match="that round is closed"):
        replicates.replicate("mad", flips, out, more=0)


def test_the_best_rates_of_a_file_are_those_of_the_family_of_a_method(tmp_path: Path) -> None:
    file = tmp_path / "trials.jsonl"
    lines = [line((0.1, 0.2, 0.3), 50.0, "mad:13"), line((0.4, 0.5, 0.6), 60.0, "mad:13")]
    lines += [line((0.7, 0.8, 0.9), 70.0, "mad:8"), line((1.0, 1.1, 1.2), 10.0, "mad:8 residual")]
    file.write_text("".join(json.dumps(own) + "\n" for own in lines))
    for method, form, expected in (
        ("mad:16", None, (0.4, 0.5, 0.6)),
        ("mad:4", None, (0.7, 0.8, 0.9)),
        ("mad:8", "residual", (1.0, 1.1, 1.2)),
        ("frozen", None, ()),
    ):
        assert tuple(tune.rates_of_trials(file, method, form).values()) == expected
    with pytest.raises(ValueError, match="empty"):
        tune.rates_of_trials(file, "wtpb")


def test_the_earlier_grids_have_the_rates_of_the_first_round_and_todays_those_of_methods() -> None:
    grids = load_script("fair_grids")
    best: dict[str, dict] = {}
    for own in map(json.loads, (RECORDS / "trials.jsonl").read_text().splitlines()):
        if own["mean"] > best.get(own["family"], {"mean": -1})["mean"]:
            best[own["family"]] = own
    table = grids.GRIDS["table"]
    for stage in table.stages:
        for method in stage.methods:
            family = f"{method} residual" if stage.options else method
            rates = best[family]["rates"] if family in best else None
            assert rates is None or rates.items() <= table.recipe_of(stage, method).items(), method
    control, own = grids.GRIDS["rates"], METHODS["mad"].rates_for({"rank": 8})
    given = {"adapter_lr": own.adapter, "batchnorm_lr": own.batchnorm, "head_lr": own.head}
    assert control.recipe_of(control.stages[0], "mad:13").items() >= given.items()
    bounded = grids.GRIDS["bounded"]
    assert not {"adapter_lr", "batchnorm_lr", "head_lr"} & bounded.recipe_of(bounded.stages[0], "mad").keys()
