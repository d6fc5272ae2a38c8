"""The results explorer: what it ranks, what a budget hides, and how recorded runs become rows."""

import pytest

from madlab import widgets
from madlab.runs.folder import Result
from madlab.runs.record import Record


def record(method: str, domain: str, accuracy: float, size: int, rank: int | None = None, seed: int = 0) -> Record:
    facts = {"base": {"name": "x", "sha256": "0"}, "base_parameters": 1000, "adapter_parameters": size}
    facts |= {"val_accuracy": 0.0, "test_accuracy": accuracy, "best_epoch": 1, "epochs": 1, "seconds": 1.0}
    return Record(Result(domain, method, rank, seed, **facts, device="", versions={}), [])


RECORDS = [
    record("finetune", "signs", 80.0, 1000),
    record("finetune", "birds", 90.0, 1000),
    record("mad", "signs", 85.0, 110, rank=8),
    record("mad", "signs", 75.0, 110, rank=8, seed=1),
    record("mad", "birds", 95.0, 110, rank=8),
    record("frozen", "signs", 40.0, 0),  # not on birds: its mean and score would be of other domains
]


def test_recorded_runs_become_rows_against_their_own_fine_tuning() -> None:
    rows = {row.method: row for row in widgets.recorded_results(RECORDS)}
    assert set(rows) == {"finetune", "mad:8"}
    mad = rows["mad:8"]
    assert mad.networks == pytest.approx(1 + 2 * 0.11)
    assert mad.accuracies == {"signs": 80.0, "birds": 95.0} and mad.mean == 87.5
    # birds: 1000 * ((20 - 5) / 20)^2 = 562.5
    assert mad.points == pytest.approx({"signs": 250.0, "birds": 562.5}) and mad.score == pytest.approx(812.5)
    assert widgets.recorded_results(RECORDS[2:]) == []
    assert widgets.recorded_results([record("finetune", "signs", 100.0, 1000)]) == []


def test_ranking_within_a_budget_and_opening_a_row() -> None:
    panel = widgets.results_explorer({"published": widgets.published_results(), "ours": [], "recorded": []})
    assert panel.table.options == ("published",)  # empty tables are not offered
    scores = panel.state["order"]
    assert (
        next(iter(scores)) == "MAD"
        and scores["MAD"] == 3828
        and list(scores.values()) == sorted(scores.values(), reverse=True)
    )
    pictures = {panel.image.value}
    panel.limit.value = 1.5
    # Budgets as printed: URL and Vanilla MDL 1x, Piggyback 1.28x, the feature extractor 1x; MAD's is not known.
    kept = {"URL", "Vanilla MDL (one shared net)", "Piggyback", "Feature extractor"}
    assert set(panel.state["order"]) == kept and panel.state["hidden"] == len(scores) - 4
    pictures.add(panel.image.value)
    panel.show.value = "svhn"
    assert panel.state["order"]["Piggyback"] == 97.24 and next(iter(panel.state["order"])) == "Piggyback"
    pictures.add(panel.image.value)
    panel.method.value = "Piggyback"
    # 4.8494 * (14.36 - 3.01)^2 = 624.7
    assert panel.state["points"]["daimlerpedcls"] == pytest.approx(624.7, abs=0.1)
    pictures.add(panel.image.value)
    assert len(pictures) == 4


def test_another_table_brings_its_own_domains_and_methods() -> None:
    tables = {"published": widgets.published_results(), "recorded": widgets.recorded_results(RECORDS)}
    panel = widgets.results_explorer(tables)
    panel.show.value, panel.method.value = "gtsrb", "URL"
    panel.table.value = "recorded"
    assert panel.show.options == ("score S", "mean accuracy (%)", "signs", "birds")
    assert panel.method.options == ("finetune", "mad:8")
    assert panel.state["order"] == pytest.approx({"mad:8": 812.5, "finetune": 500.0})
    panel.limit.value = 1.0
    assert panel.state["order"] == {} and "nothing" not in panel.error.value
