"""The frame of runs: one row per run, labels that keep different things apart, and means over seeds by hand."""

import math
from dataclasses import replace

import pytest
from made_runs import made_run

from madlab.errors import MadlabError, MadlabWarning
from madlab.tables.frame import accuracy_table, as_frame, by_domain, label, layer_points


def test_one_row_per_run_with_what_it_was_and_what_it_reached() -> None:
    runs = [
        made_run("signs", "mad", 70.0, rank=8, seed=2, rates={"head": 0.3}),
        made_run("birds", "finetune", 80.0, 1000, crop=24),
    ]
    first, second = as_frame(runs).to_dict("records")
    wanted = {"method": "mad:8", "domain": "signs", "seed": 2, "rank": 8, "layers": "all", "test_accuracy": 70.0}
    wanted |= {"adapter_parameters": 110, "base": "small", "base_source": "small.safetensors", "head_rate": 0.3}
    wanted |= {"protocol": "small (01234567), 2 epochs", "date": "2026-11-23", "val_accuracy": 20.0, "best_epoch": 2}
    assert {key: first[key] for key in wanted} == wanted
    assert second["protocol"] == "small (01234567), 2 epochs, crop 24"
    assert math.isnan(second["head_rate"]) and as_frame(runs)["rank"].isna().tolist() == [False, True]
    assert as_frame([]).empty


def test_labels_say_what_is_unusual() -> None:
    named = {
        "mad": made_run("d", "mad", 1.0),
        "mad:8": made_run("d", "mad", 1.0, rank=8),
        "mad:8 (3x3)": made_run("d", "mad", 1.0, rank=8, layers="3x3"),
        "lora:4 (1x1, alpha 8.0)": made_run("d", "lora", 1.0, rank=4, layers="1x1", options={"alpha": 8.0}),
        'mad (["conv1", "conv2"])': made_run("d", "mad", 1.0, layers=("conv1", "conv2")),
        'mad (rank {"a": 2, "b": 3})': made_run("d", "mad", 1.0, rank={"a": 2, "b": 3}),
        "own-method": made_run("d", "own-method", 1.0),
    }
    assert [label(run) for run in named.values()] == list(named)
    usual = made_run("d", "lora", 1.0, rank=4, options={"alpha": None})
    assert label(usual) == label(made_run("d", "lora", 1.0, rank=4))


def test_long_options_are_shortened_and_stay_different() -> None:
    many = [tuple(f"layer{i}.conv" for i in range(count)) for count in (20, 21, 22)]
    labels = {label(made_run("d", "mad", 1.0, layers=layers)) for layers in many}
    assert len(labels) == 3 and all(len(text) < 30 for text in labels)


def test_accuracies_are_means_over_seeds_in_the_order_of_the_runs() -> None:
    runs = [made_run("signs", "mad", test, seed=seed) for seed, test in enumerate((70.0, 74.0, 75.0))]
    runs += [made_run("digits", "frozen", 60.0), made_run("signs", "frozen", 40.0)]
    table = accuracy_table(runs)
    assert list(table.index) == ["mad", "frozen"] and list(table) == ["signs", "digits"]
    assert table.loc["mad", "signs"] == pytest.approx(73.0) and math.isnan(table.loc["mad", "digits"])
    assert list(table.loc[["mad", "frozen"]].dropna(axis="columns")) == ["signs"]


def test_layers_are_told_apart_and_seeds_kept() -> None:
    points = layer_points(
        [
            made_run("signs", "mad", 70.0, 500),
            made_run("birds", "mad", 90.0, 500),
            made_run("signs", "mad", 74.0, 500, seed=1),
            made_run("signs", "mad", 55.0, 90, rank=8, layers="1x1"),
        ]
    )
    assert points == {
        "signs": {("all", "mad"): (50.0, [70.0, 74.0]), ("1x1", "mad:8"): (9.0, [55.0])},
        "birds": {("all", "mad"): (50.0, [90.0])},
    }


def test_a_value_by_domain_is_a_mean_over_seeds_or_a_difference_within_seeds() -> None:
    rows = [
        {"way": way, "domain": d, "seed": seed, "accuracy": accuracy}
        for way, d, seed, accuracy in (
            ("uniform", "signs", 0, 50.0),
            ("greedy", "signs", 0, 53.0),
            ("uniform", "signs", 1, 70.0),  # no greedy partner: it counts for the mean and not for the difference
            ("uniform", "birds", 0, 20.0),
            ("greedy", "birds", 0, 18.0),
            ("greedy", "cars", 0, 90.0),
        )
    ]

    def accuracy(row: dict) -> float:
        return row["accuracy"]

    assert by_domain(rows, "way", accuracy) == {
        "uniform": {"signs": 60.0, "birds": 20.0},
        "greedy": {"signs": 53.0, "birds": 18.0, "cars": 90.0},
    }
    assert by_domain(rows, "way", accuracy, against="uniform")["greedy"] == {"signs": 3.0, "birds": -2.0}


def test_runs_of_other_data_are_not_compared() -> None:
    one, other = made_run("photos", "mad", 50.0), made_run("photos", "finetune", 60.0)
    as_frame([one, other])
    for field, value in {"split": "0" * 64, "flip": False}.items():
        changed = replace(other, config=replace(other.config, **{field: value}))
        with pytest.raises(MadlabError, match=r"The images of photos were .*report them apart"):
            as_frame([one, changed])
        as_frame([replace(one, result=replace(one.result, domain="elsewhere")), changed])
    tested = [
        replace(run, result=replace(run.result, test_sha256=digest)) for run, digest in ((one, "a"), (other, "b"))
    ]
    with pytest.warns(MadlabWarning, match="not tested on the same pixels"):
        as_frame(tested)
