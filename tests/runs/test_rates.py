"""The learning rates of METHODS are those that did best in the committed trials, by the mean of two domains."""

import json
from collections import defaultdict
from statistics import fmean

import pytest

from madlab import METHODS
from madlab.adapters.base import split_method
from madlab.runs.record import RECORDS, read_runs

DOMAINS = {"gtsrb", "flowers"}
UNTRIED = {
    "ksm": ("mad", 1),
    "hira": ("mad:8", 1),
    "filter-subspace": ("series", 1),
    "peft:dora": ("peft:lora", 1),
    "peft:hira": ("mad:8", 1),
    "peft:oft": ("series", 0.1),
    "peft:hra": ("series", 1),
}
"""Methods without trials yet, the relative whose rates they have, and at which share of its adapter's rate: in a run of
three epochs on the drawn signs, OFT at the whole rate ended below a trained BatchNorm alone."""
TRIED = {
    "ksm": "mad",
    "hira": "lora",
    "filter-subspace": "series",
    "peft:dora": "peft:lora",
    "peft:hira": "peft:lora",
    "peft:oft": "series",
    "peft:hra": "series",
}
"""Methods without trials yet, and the relative whose rates they have."""
TRIED = [name for name in METHODS if name not in UNTRIED]


@pytest.fixture(scope="module")
def means() -> dict[str, dict[tuple, float]]:
    return read_means("trials.json")


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


def test_every_method_got_four_values_of_the_rate_that_decides(means) -> None:
    assert {split_method(name)[0] for name in means} == set(TRIED)
    for name, trials in means.items():
        decides = "batchnorm_lr" if name in ("frozen", "batchnorm") else "adapter_lr"
        assert len([rates for rates in trials if decides in dict(rates)]) == 4, name


@pytest.mark.parametrize("name", [*TRIED, "mad:8"])
def test_the_method_has_the_best_of_its_trials(means, name: str) -> None:
    plain, rank = split_method(name)
    method, trials = METHODS[plain], means[name]
    best = max(trials, key=trials.__getitem__)
    if "adapter_lr" in dict(best):
        assert method.rate({"rank": rank}) == dict(best)["adapter_lr"]
        assert (method.rates.batchnorm, method.rates.head) == (0.3, None)
        return
    adapter = max((rates for rates in trials if "adapter_lr" in dict(rates)), key=trials.__getitem__, default=None)
    assert adapter is None or method.rate({"rank": rank}) == dict(adapter)["adapter_lr"]
    assert (method.rates.head or method.rates.batchnorm) == dict(best)["head_lr"]
    assert method.rates.batchnorm == dict(best).get("batchnorm_lr", 0.3)


@pytest.mark.parametrize("name", UNTRIED)
def test_a_method_without_trials_has_the_rates_of_its_relative(name: str) -> None:
    written, share = UNTRIED[name]
    plain, rank = split_method(written)
    method, relative = METHODS[name], METHODS[plain]
    assert method.rates.adapter == pytest.approx(share * relative.rate({"rank": rank}))
    assert (method.rates.batchnorm, method.rates.head) == (relative.rates.batchnorm, relative.rates.head)


@pytest.mark.parametrize("grid", ["mini-decathlon-64px", "mini-sketch-64px"])
def test_the_runs_at_full_width_have_the_best_of_the_trials_at_full_width(grid: str) -> None:
    trials = read_means("trials-full-width.json")
    assert {split_method(name)[0] for name in trials} == set(TRIED)
    assert {len(rates) for rates in trials.values()} == {4}
    runs = read_runs(RECORDS / f"{grid}.jsonl")
    assert runs
    for run in runs:
        ranked = run.result.method == "mad" and run.result.rank is not None
        tried = trials["mad:8" if ranked else run.result.method]
        (kind, rate), *_ = max(tried, key=tried.__getitem__)  # "adapter_lr", or "batchnorm_lr" before "head_lr"
        assert run.result.rates[kind.removesuffix("_lr")] == rate, run.path


def test_the_runs_with_frozen_batchnorm_have_the_best_of_four_trials_on_the_same_domains() -> None:
    trials = read_means("trials-frozen-batchnorm.json")
    assert trials.keys() == {f"{name}-frozen-batchnorm" for name in ("mad", "piggyback", "wtpb")}
    assert {len(rates) for rates in trials.values()} == {4}
    seeds: dict[str, dict[str, set[int]]] = defaultdict(lambda: defaultdict(set))
    for run in read_runs(RECORDS / "frozen-batchnorm.jsonl"):
        result = run.result
        ((_, rate),) = max(trials[result.method], key=trials[result.method].__getitem__)
        assert result.rates["adapter"] == rate, run.path
        seeds[result.method][result.domain].add(result.seed)
    grids = [read_runs(RECORDS / f"{name}.jsonl") for name in ("mini-decathlon", "mini-sketch")]
    every = {run.result.domain for runs in grids for run in runs}
    assert seeds == {method: {domain: {0, 1, 2} for domain in every} for method in trials}
