"""The results explorer: what it ranks, what a budget hides, and how recorded runs become rows."""

import pytest
from made_runs import made_run

from madlab import widgets
from madlab.runs.record import Run
from madlab.tables.entries import Entry, published_entries, recorded_entries
from madlab.tables.report import collect

RUNS = [
    made_run("signs", "finetune", 80.0, 1000),
    made_run("birds", "finetune", 90.0, 1000),
    made_run("signs", "mad", 85.0, rank=8),
    made_run("signs", "mad", 75.0, rank=8, seed=1),
    made_run("birds", "mad", 95.0, rank=8),
    made_run("signs", "frozen", 40.0, 0),  # not on birds: its mean and score would be of other domains
]


def entries(runs: list[Run]) -> list[Entry]:
    (table,) = collect(runs)
    return recorded_entries(table)


def test_recorded_runs_become_rows_against_their_own_fine_tuning() -> None:
    rows = {row.method: row for row in entries(RUNS)}
    assert set(rows) == {"finetune", "mad:8"}
    mad = rows["mad:8"]
    assert mad.networks == pytest.approx(1 + 2 * 0.11)
    assert mad.accuracies == {"signs": 80.0, "birds": 95.0} and mad.mean == 87.5
    # birds: 1000 * ((20 - 5) / 20)^2 = 562.5
    assert mad.points == pytest.approx({"signs": 250.0, "birds": 562.5}) and mad.score == pytest.approx(812.5)
    assert entries(RUNS[2:]) == []
    assert entries([made_run("signs", "finetune", 100.0, 1000)]) == []


def test_ranking_within_a_budget_and_opening_a_row() -> None:
    panel = widgets.results_explorer({"published": published_entries("decathlon"), "ours": [], "recorded": []})
    assert panel.table.options == ("published",)  # empty tables are not offered
    scores = panel.state["order"]
    assert list(scores)[:2] == ["URL + parallel residual adapters", "MAD"] and scores["MAD"] == 3828
    assert list(scores.values()) == sorted(scores.values(), reverse=True)
    pictures = {panel.image.value}
    panel.limit.value = 1.5
    # Budgets as printed: URL, Vanilla MDL and the feature extractor 1x, Piggyback 1.28x; MAD's is not known.
    kept = {"URL", "Vanilla MDL (one shared net)", "Piggyback", "Feature extractor"}
    kept.add("Parallel residual adapters 2018, SVD")
    assert set(panel.state["order"]) == kept and panel.state["hidden"] == len(scores) - 5
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
    tables = {"published": published_entries("decathlon"), "recorded": entries(RUNS)}
    panel = widgets.results_explorer(tables)
    panel.show.value, panel.method.value = "gtsrb", "URL"
    panel.table.value = "recorded"
    assert panel.show.options == ("score S", "mean accuracy (%)", "birds", "signs")
    assert panel.method.options == ("mad:8", "finetune")  # by parameters
    assert panel.state["order"] == pytest.approx({"mad:8": 812.5, "finetune": 500.0})
    panel.limit.value = 1.0
    assert panel.state["order"] == {} and "nothing" not in panel.error.value


def test_rows_of_one_method_on_several_networks_stand_alone() -> None:
    rows = published_entries("sketch")
    panel = widgets.results_explorer({"sketch": rows})
    panel.show.value = "cubs"
    assert len(panel.state["order"]) == sum("cubs" in row.accuracies for row in rows)
    masks = {
        name: value for name, value in panel.state["order"].items() if name.startswith("Piggyback, released masks")
    }
    assert len(masks) == len(set(masks.values())) == 3
