"""The runs of earlier grids have the best rates of the earlier trials, of one rate at a time, that came before them."""

import json
from collections import defaultdict
from statistics import fmean

import pytest
from scripts import load_script

from madlab.adapters.base import split_method
from madlab.runs.record import RECORDS, read_runs

NINE, FIVE = (getattr(load_script("fair_grids"), name) for name in ("NINE", "FIVE"))
DOMAINS = {"gtsrb", "flowers"}
TRIED = {
    "frozen", "batchnorm", "finetune", "mad", "piggyback", "wtpb", "mad+wtpb", "parallel", "series", "lora", "prompt",
    "peft:lora", "peft:loha", "peft:lokr", "peft:ia3",
}  # fmt: skip
"""The methods that there were."""


def read_means(file: str) -> dict[str, dict[tuple, float]]:
    """Method -> rates of a trial, as sorted pairs -> mean validation accuracy."""
    found: dict[tuple, dict[str, float]] = defaultdict(dict)
    for line in json.loads((RECORDS / file).read_text()):
        if line["domain"] in DOMAINS:
            found[line["method"], *sorted(line["rates"].items())][line["domain"]] = line["val_accuracy"]
    by_method: dict[str, dict[tuple, float]] = defaultdict(dict)
    for (method, *rates), accuracies in found.items():
        assert accuracies.keys() == DOMAINS, "both domains, or the mean is not of the same images"
        by_method[method][tuple(rates)] = fmean(accuracies.values())
    return by_method


@pytest.mark.parametrize("grid", ["mini-decathlon-64px", "mini-sketch-64px"])
def test_the_runs_at_full_width_have_the_best_of_the_trials_at_full_width(grid: str) -> None:
    trials = read_means("trials-full-width.json")
    assert {split_method(name)[0] for name in trials} == TRIED
    assert {len(rates) for rates in trials.values()} == {4}
    runs = read_runs(RECORDS / f"{grid}.jsonl")
    assert runs
    for run in runs:
        ranked = run.result.method == "mad" and run.result.rank is not None
        tried = trials["mad:8" if ranked else run.result.method]
        (kind, rate), *_ = max(tried, key=tried.__getitem__)  # "adapter_lr", or "batchnorm_lr" before "head_lr"
        assert run.result.rates[kind.removesuffix("_lr")] == rate, run.path


def test_the_runs_with_frozen_batchnorm_have_the_best_of_four_trials_and_a_control_each() -> None:
    """The control: the same method on the same domains with the same seeds, and a BatchNorm of its own."""
    trials = read_means("trials-frozen-batchnorm.json")
    controls = {"mad", "piggyback", "wtpb"}
    assert trials.keys() == {f"{name}-frozen-batchnorm" for name in controls}
    assert {len(rates) for rates in trials.values()} == {4}
    seeds: dict[str, dict[str, set[int]]] = defaultdict(lambda: defaultdict(set))
    for run in read_runs(RECORDS / "frozen-batchnorm.jsonl"):
        result = run.result
        seeds[result.method][result.domain].add(result.seed)
        if result.method in trials:
            ((_, rate),) = max(trials[result.method], key=trials[result.method].__getitem__)
            assert result.rates["adapter"] == rate, run.path
    every = set(NINE) | set(FIVE)
    assert seeds == {method: {domain: {0, 1, 2} for domain in every} for method in controls | trials.keys()}
